"""Hosts that are network, process and mount namespaces of this machine, each with its own sshd."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NETWORK = "10.77.53"
BRIDGE = "atat-br"
NAMES = ["atat-head", "atat-one", "atat-two"]
TOOLS = ["ip", "unshare", "ssh", "ssh-keygen", "rsync", "/usr/sbin/sshd"]

SSHD = """\
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
"""
# The first process of a host: its own name, home, Ray files and sshd; all else is this machine's.
BOOT = """\
set -e
hostname {name}
for file in passwd hosts resolv.conf; do mount --bind {home}/$file /etc/$file; done
mount --bind {home}/ray /tmp/ray
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e -f {folder}/sshd_config
"""


def run(*words, check=True, **options):
    """Run a command; return what it said."""
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}"
    return done.stdout


class Host:
    """One host; Ray sees no process and no address of another but over the network."""

    def __init__(self, name, address, folder):
        self.name, self.address, self.folder = name, address, folder
        self.home = folder / name
        self.process = None
        self.wire = f"{name}-w"
        for path in (self.home / "ray", Path("/tmp/ray")):
            path.mkdir(parents=True, exist_ok=True)
        passwd = Path("/etc/passwd").read_text().splitlines()
        root = f"root:x:0:0:root:{self.home}:/bin/bash"
        others = [line for line in passwd if not line.startswith("root:")]
        (self.home / "passwd").write_text("\n".join([root, *others]) + "\n")
        (self.home / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
        (self.home / "resolv.conf").touch()  # no name server, so that nobody waits for one
        (self.home / ".bashrc").write_text(
            "export PYTHONPATH=~/atat-ray OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0\n"
        )
        (self.home / "shared").symlink_to(folder / "shared")

    def wire_up(self):
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.wire, "type", "veth", "peer", "name", "eth0",
            "netns", self.name)  # fmt: skip
        run("ip", "link", "set", self.wire, "master", BRIDGE, "up")
        inside = ["ip", "-n", self.name]
        run(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run(*inside, "link", "set", device, "up")
        run(*inside, "route", "add", "default", "via", f"{NETWORK}.1")

    def power_on(self):
        script = BOOT.format(name=self.name, home=self.home, folder=self.folder)
        words = ["ip", "netns", "exec", self.name, "unshare", "--pid", "--mount", "--uts", "--fork",
                 "--kill-child", "--mount-proc", "bash", "-c", script]  # fmt: skip
        with (self.folder / f"{self.name}.log").open("a") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        run("ip", "link", "set", self.wire, "up")

    def power_off(self):
        """Take the host away at once: its wire first, then the parent of all its processes."""
        run("ip", "link", "set", self.wire, "down", check=False)
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def commands(self):
        """List the command lines of the processes of this host."""
        found = []
        for pid in run("ip", "netns", "pids", self.name).split():
            try:
                found.append(
                    Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                )
            except OSError:
                continue
        return found

    def remove(self):
        self.power_off()
        run("ip", "link", "delete", self.wire, check=False)
        run("ip", "netns", "delete", self.name, check=False)


def missing():
    """Say what this machine lacks to be a cluster; empty if nothing."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs root on Linux"
    lacking = [tool for tool in TOOLS if not shutil.which(tool)]
    if lacking:
        return f"needs {', '.join(lacking)}"
    if importlib.util.find_spec("aiohttp_cors") is None:
        return "needs `pip install 'ray[default]'`"
    lacking = [name for name in ("ray", "python") if not (Path(sys.prefix) / "bin" / name).exists()]
    if lacking:
        return f"needs an environment with {' and '.join(lacking)} in {sys.prefix}/bin"
    try:
        run("ip", "netns", "add", "atat-probe")
        run(
            "ip",
            "netns",
            "exec",
            "atat-probe",
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "true",
        )
    except AssertionError as error:
        return f"needs network and process namespaces: {error}"
    finally:
        run("ip", "netns", "delete", "atat-probe", check=False)
    return ""


@pytest.fixture
def hosts(tmp_path):
    """A head and two workers that are up and take SSH with the key in ``tmp_path``."""
    if reason := missing():
        pytest.skip(reason)
    for name in ("key", "host_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name)
    (tmp_path / "sshd_config").write_text(SSHD.format(folder=tmp_path))
    (tmp_path / "shared").mkdir()
    made = [Host(name, f"{NETWORK}.{2 + i}", tmp_path) for i, name in enumerate(NAMES)]
    try:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for host in made:
            host.wire_up()
            host.power_on()
        time.sleep(2)
        yield made
    finally:
        for host in made:
            host.remove()
        run("ip", "link", "delete", BRIDGE, check=False)
