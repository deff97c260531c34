"""Location of a record's artifacts after its folder was moved."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from analysis.schema.names import ARTIFACTS_FOLDER


def database_of(uri: str) -> Path:
    """Return the absolute path of the file that a sqlite address names."""
    return Path(uri.partition(":///")[2].partition("?")[0]).absolute()


def moved_from(uri: str, artifact_uri: str) -> Path | None:
    """Return the former folder of the artifacts if the campaign's folder was moved or copied.

    MLflow stores absolute paths, which do not change when a folder is moved or copied.

    Args:
        uri: address of the tracking store.
        artifact_uri: of the campaign's run.

    Returns:
        The folder of the artifacts as the record names it; None if that is correct.

    Raises:
        ValueError: the artifacts are neither there nor beside the database.
    """
    place = urlsplit(artifact_uri)
    if not uri.startswith(("sqlite:///", "sqlite+")) or place.scheme != "file":
        return None
    recorded = Path(unquote(place.path))  # .../artifacts/RUN/artifacts
    database = database_of(uri)
    here = database.with_name(ARTIFACTS_FOLDER).joinpath(*recorded.parts[-2:])
    if recorded.is_dir():
        return recorded.parents[1] if here.is_dir() and not here.samefile(recorded) else None
    if here.is_dir():
        return recorded.parents[1]
    raise ValueError(
        f"the artifacts of the record in {database} are neither in {recorded.parents[1]}, as it "
        f"says, nor in {here.parents[1]}; put them beside the record, in {here.parents[1]}"
    )
