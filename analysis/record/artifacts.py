"""Places of artifacts: those that a record names are followed only where the user sent us."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import urlsplit

from analysis import schema
from analysis.record.address import Address, without_secrets

# Their libraries talk to the service itself, or to the endpoint in the user's environment.
CLOUD = ("s3", "gs")
UNSAFE = ("\\", "@")  # readers of addresses disagree on what they mean


def checked_place(address: Address, artifact_uri: str) -> str:
    """Return the place of a run's artifacts, if the user's address leads there.

    A record is data, so that the places in it are not trusted. Artifacts of a record in a sqlite
    database lie in the folder of the database. Those of a server lie on the server, in files or in
    a cloud store.

    Args:
        address: of the tracking store, as the user gave it.
        artifact_uri: place of the artifacts, as the record names it.

    Raises:
        ValueError: the place is another one.
    """
    shown = without_secrets(artifact_uri)
    if address.database is not None:
        if schema.lies_beside(address.database, artifact_uri):
            return artifact_uri
        raise ValueError(
            f"the record in {address.database} names {shown} as a place of artifacts, which is "
            "outside its folder; `atat verify` corrects the places in the record of a folder that "
            "was moved; otherwise the record was altered, or its artifacts are a link: put them "
            f"in {schema.artifacts_of(address.database)}"
        )
    place = urlsplit(artifact_uri)
    if schema.path_of(artifact_uri) is not None or place.scheme in CLOUD:
        return artifact_uri
    proxied = place.scheme in ("mlflow-artifacts", "http", "https") and address.is_server
    own = urlsplit(address.full).netloc.rpartition("@")[2]
    proxied &= not any(sign in artifact_uri for sign in UNSAFE)
    if proxied and place.netloc in ((own, "") if place.scheme == "mlflow-artifacts" else (own,)):
        return artifact_uri
    raise ValueError(
        f"the record at {address} names {shown} as a place of artifacts; nothing is sent to an "
        "address that you did not give; let the server store its artifacts itself "
        "(`mlflow server --serve-artifacts`)"
    )


def local_file(place: str, path: str) -> Path | None:
    """Return the file of an artifact in a local place; None if the place is not local.

    Raises:
        ValueError: the path leads out of the place.
    """
    folder = schema.path_of(place)
    if folder is None:
        return None
    file = folder / path
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the artifact {path!r} is outside {folder}; the record was altered")
    return file


def check_not_moved(address: Address, place: str, name: str, kind: str) -> None:
    """Refuse a record whose folder was moved, or whose artifacts are missing.

    Reading writes nothing, so the message names the command that corrects the record.

    Args:
        address: of the tracking store.
        place: of the artifacts of its parent run, as the record names it.
        name: of the campaign or sweep.
        kind: ``schema.KIND_CAMPAIGN`` or ``schema.KIND_SWEEP``.

    Raises:
        ValueError: the message names the former place of the artifacts.
    """
    database = address.database
    if database is None:
        return
    options = f"{shlex.quote(name)} --out {shlex.quote(str(database.parent))}"
    path = schema.path_of(place)
    if not schema.lies_beside(database, place):
        shown = path.parents[1] if path and len(path.parts) > 2 else without_secrets(place)
        command = "resume" if kind == schema.KIND_SWEEP else "verify"
        raise ValueError(
            f"{database.parent} was moved or copied, and its record still has its artifacts in "
            f"{shown}; `atat {command} {options}` corrects that"
        )
    if path is not None and not path.is_dir():
        raise ValueError(
            f"the artifacts of the record in {database} are missing: there is no {path}; "
            f"`atat resume {options}` writes them again from the folders of the units"
        )
