"""Where a campaign or sweep lies: the paths in its folder, and the address of its record."""

from dataclasses import dataclass
from pathlib import Path

from analysis.record.address import Address

DATABASE = "mlflow.db"


@dataclass(frozen=True, kw_only=True)
class FolderLayout:
    """Paths in the folder of a campaign or sweep.

    Attributes:
        folder: the folder; every node of a cluster must see it under this path.
    """

    folder: Path

    @property
    def assets(self) -> Path:
        """Folder of the evaluation models and priors."""
        return self.folder / "assets"

    @property
    def inputs_file(self) -> Path:
        """Manifests of the registered inputs: the SHA-256 of each file."""
        return self.folder / "inputs.json"

    @property
    def stop_file(self) -> Path:
        """While this file exists, no unit starts and a running one ends after its stage."""
        return self.folder / "stop"

    @property
    def committed_file(self) -> Path:
        """The hashes that the record holds, written once the record holds them."""
        return self.folder / "committed.json"

    def unit_folder(self, unit_id: str) -> Path:
        """Folder of the stage files and notes of a unit."""
        return self.folder / "units" / unit_id


def default_folder(name: str) -> Path:
    """Folder of a campaign or sweep without ``--out``."""
    return Path("runs") / name


def local_uri(folder: Path) -> Address:
    """Address of the database in the folder itself."""
    return Address(f"sqlite:///{(folder / DATABASE).absolute()}")


def kept_uri(kept: str | None, folder: Path) -> Address:
    """Address of the record of a folder, from what the folder says.

    The database in the folder is followed. Another address is followed only after the user gave it,
    and so is a database that is a link: it is the address of another one.

    Args:
        kept: address in the folder's file; None for the database in the folder.
        folder: of the campaign or sweep.
    """
    database = folder.absolute() / DATABASE
    if kept is None and database.is_symlink():
        kept = f"sqlite:///{database.resolve()}"
    own = local_uri(folder)
    return own if kept in (None, own) else Address.kept(kept)


def external_uri(tracking_uri: str | None, folder: Path) -> Address | None:
    """Write the address of a record in full; None if it is the database in the folder.

    A folder with its own record stores no address, so that it can be moved.
    """
    address = Address(tracking_uri) if tracking_uri else None
    return None if address == local_uri(folder) else address


def check_new_folder(folder: Path, kind: str, tracking_uri: Address | None) -> None:
    """Refuse a folder in which nothing new can be started.

    Args:
        folder: of a campaign or sweep that does not exist yet.
        kind: "campaign" or "sweep".
        tracking_uri: of MLflow; None for a database in ``folder``.

    Raises:
        ValueError: it holds other files, or its name cannot stand in a database address.
    """
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no {kind}; choose another with "
                         "--out, or remove what is left in it")  # fmt: skip
    if "?" in str(folder.absolute()) and tracking_uri is None:
        raise ValueError(
            f"a database cannot be in {folder.absolute()}: its address would end at the '?'; "
            "choose another folder with --out"
        )
