"""Move the record of a campaign or sweep to another address."""

from analysis import schema
from trials.campaign.creation import write_file
from trials.campaign.folder import RunFolder
from trials.campaign.inputs import commitments, registration_tags
from trials.campaign.layout import external_uri, local_uri
from trials.campaign.lock import exclusive_lock
from trials.campaign.provenance import versions
from trials.tracking.record import MlflowRecord


def move_record(run_folder: RunFolder, tracking_uri: str) -> str:
    """Keep the record at another address from now on; the former record is left as it is.

    The record there must be that of this campaign, or there must be none. In the second case the
    campaign is registered there with the looks of the former record, and the next run writes its
    units.

    Args:
        run_folder: the campaign or sweep.
        tracking_uri: new address.

    Returns:
        What was done, in one line.

    Raises:
        ValueError: the record is there already, the address cannot be used, or it holds something
            else under this name.
    """
    external = external_uri(tracking_uri, run_folder.folder)
    address = external or local_uri(run_folder.folder)
    if address == run_folder.tracking_uri:
        raise ValueError(f"the record of {run_folder.folder} is kept at {address} already")
    with exclusive_lock(run_folder.folder):
        record = MlflowRecord(address, run_folder.settings.name, run_folder.kind)
        if record.attach():
            record.check_hashes(commitments(run_folder))
            found = f"it holds {len(record.units())} of {run_folder.total()} units"
        else:
            found = register_there(run_folder, record)
        run_folder.note_committed()
        write_file(
            type(run_folder),
            run_folder.settings,
            run_folder.folder,
            nonce=run_folder.nonce,
            tracking_uri=external,
            replaced=run_folder.replaced,
        )
    return (
        f"the record of {run_folder.settings.name} is kept at {address} from now on: {found}; the "
        f"record at {run_folder.tracking_uri} was left as it is"
    )


def register_there(run_folder: RunFolder, record: MlflowRecord) -> str:
    """Register a campaign at an address that holds no record of it; say what was registered."""
    if record.experiment_id and record.store.search(record.experiment_id, ""):
        raise ValueError(
            f"the MLflow experiment {record.name!r} at {record.uri} holds runs that are not of "
            f"this {record.kind.parent}; choose another address, or delete the experiment there"
        )
    former = former_tags(run_folder)
    looks = {name: text for name, text in former.items() if name.startswith(schema.LOOK_PREFIX)}
    kept = {schema.VERSIONS: former.get(schema.VERSIONS) or record.text(versions())}
    other = {
        name: text
        for name, text in former.items()
        if name == schema.REGISTERED_AGAIN or name.startswith(schema.CLAIM_PREFIX)
    }
    record.register(
        run_folder.settings,
        run_folder.table,
        registration_tags(run_folder, record.text) | kept | other | looks,
        again=run_folder.is_committed() and not former,
        replaced=run_folder.replaced,
    )
    if former:
        return f"it was registered there with its looks ({len(looks)})"
    return "it was registered there; the former record cannot be read, so its looks are unknown"


def former_tags(run_folder: RunFolder) -> dict[str, str]:
    """Return the tags of the campaign's run in its former record; empty if it cannot be read."""
    try:
        former = MlflowRecord(run_folder.tracking_uri, run_folder.settings.name, run_folder.kind)
        return former.tags() if former.attach() else {}
    except ValueError:
        return {}
