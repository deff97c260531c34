"""Location of the artifacts of a record in a folder: beside its database."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from analysis.schema.names import ARTIFACTS_FOLDER


def database_of(uri: str) -> Path:
    """Return the absolute path of the file that a sqlite address names."""
    return Path(uri.partition(":///")[2].partition("?")[0]).absolute()


def artifacts_of(database: Path) -> Path:
    """Return the folder of the artifacts of a record in a sqlite database."""
    return database.with_name(ARTIFACTS_FOLDER)


def path_of(artifact_uri: str) -> Path | None:
    """Return the path that an artifact address names; None if it names no local file."""
    place = urlsplit(artifact_uri)
    return Path(unquote(place.path)) if place.scheme in ("", "file") else None


def lies_beside(database: Path, artifact_uri: str) -> bool:
    """Tell whether an artifact address leads into the folder of a database.

    MLflow stores absolute paths. They lead elsewhere after the folder was moved or copied, and an
    altered record may name any place. Links are followed.
    """
    path = path_of(artifact_uri)
    return path is not None and path.resolve().is_relative_to(database.parent.resolve())
