"""Find the artifacts of a record whose folder was moved."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from analysis.schema.names import ARTIFACTS_FOLDER


def database_of(uri: str) -> Path:
    """Tell which file a sqlite address names."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]).absolute()


def moved_from(uri: str, artifact_uri: str) -> Path | None:
    """Tell where the artifacts lay when a campaign's folder had its former place, or was no copy.

    MLflow keeps whole paths, which do not follow a folder that is moved or copied.

    Args:
        uri: of the tracking store.
        artifact_uri: of the campaign's run.

    Returns:
        The folder of the artifacts as the record has it; None if that is right.

    Raises:
        ValueError: the artifacts are neither there nor beside the database.
    """
    place = urlsplit(artifact_uri)
    if not uri.startswith("sqlite:///") or place.scheme != "file":
        return None
    said = Path(unquote(place.path))  # .../artifacts/RUN/artifacts
    database = database_of(uri)
    here = database.with_name(ARTIFACTS_FOLDER).joinpath(*said.parts[-2:])
    if said.is_dir():
        return said.parents[1] if here.is_dir() and not here.samefile(said) else None
    if here.is_dir():
        return said.parents[1]
    raise ValueError(
        f"the artifacts of the record in {database} are neither in {said.parents[1]}, as it says, "
        f"nor in {here.parents[1]}; put them beside the record, in {here.parents[1]}"
    )
