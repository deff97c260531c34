"""Where the files of a campaign or sweep lie in its folder."""

from dataclasses import dataclass
from pathlib import Path


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
