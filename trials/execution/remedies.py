"""What a user can do about an error of the file system: the advice fits what failed."""

import errno
import os
import tempfile
from pathlib import Path

ADVICE = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EACCES: "change its owner or permissions",
    errno.EPERM: "change its owner or permissions",
    errno.EROFS: "make the file system writable",
    errno.ENOENT: "put it back, or correct the path",
    errno.ENOTDIR: "remove the file that stands where a folder is needed, or correct the path",
    errno.EISDIR: "remove the folder that stands where a file is needed, or correct the path",
    errno.EEXIST: "remove what stands there, or correct the path",
    errno.EMFILE: "raise the limit of open files with `ulimit -n`, or run fewer units at a time",
    errno.ENFILE: "close programs that hold many files open",
    errno.EAGAIN: "raise the limit of processes with `ulimit -u`, or run fewer units at a time",
    errno.EIO: "check the disk or the network mount",
    errno.ESTALE: "mount the network file system again",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.EFBIG: "raise the limit of file sizes with `ulimit -f`",
}
OF_A_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR,
              errno.EISDIR, errno.EEXIST)  # fmt: skip
CACHE_VARIABLES = ("TORCH_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
SOCKET_PATH = "AF_UNIX path"  # how errors begin that say that the path of a socket is too long
NO_TEMPORARY_FOLDER = "No usable temporary directory"


def advise_on_os_error(error: OSError) -> tuple[str, str]:
    """Return, a line each, what failed and what to do about it.

    The advice names the environment variable that chooses the place, where there is one.
    """
    text = " ".join((error.strerror or str(error) or type(error).__name__).split())
    if SOCKET_PATH in text:
        folder = system_temporary_folder()
        return (
            f"the path of the folder of temporary files is too long for Ray's sockets "
            f"({len(folder)} characters: {folder})",
            "set RAY_TMPDIR to a folder with a shorter path, such as RAY_TMPDIR=/tmp",
        )
    if NO_TEMPORARY_FOLDER in text:
        return text, "set TMPDIR to a folder that can be written and has space"
    path = path_of(error)
    reason = f"cannot use {path}: {text}" if path else text
    advice = ADVICE.get(error.errno or 0, "")
    if path and error.errno in OF_A_PLACE:
        advice = f"{advice}, or {choose_another_place(path)}"
    elif not path and error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "free some space on the disks of the campaign's folder and of temporary files"
    again = "run the same command again"
    return reason, f"{advice}, and {again}" if advice else again


def path_of(error: OSError) -> str:
    """Return the path that an error names; empty without one."""
    name = error.filename2 or error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""


def choose_another_place(path: str) -> str:
    """Say how to choose another place than the one of a path."""
    variable = variable_of(Path(path).absolute())
    if variable:
        return f"set {variable} to another folder"
    return "choose another folder (that of a campaign with --out)"


def variable_of(place: Path) -> str:
    """Name the environment variable that chose a place; empty if the user named the place."""
    temporary = Path(system_temporary_folder()).absolute()
    if place.is_relative_to(temporary / "ray"):
        return "RAY_TMPDIR"
    for variable in CACHE_VARIABLES:
        folder = os.environ.get(variable)
        if folder and place.is_relative_to(Path(folder).absolute()):
            return variable
    for variable, folder, prefix in (("HOME", home(), "."), ("TMPDIR", temporary, "tmp")):
        if place.is_relative_to(folder) and place != folder:  # what programs name by themselves
            return variable if place.relative_to(folder).parts[0].startswith(prefix) else ""
    return ""


def home() -> Path:
    """Return the user's home folder, as programs find it."""
    return Path(os.environ.get("HOME") or "/").absolute()


def system_temporary_folder() -> str:
    """Return the folder in which Ray makes its own."""
    try:
        return os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "/tmp")
