"""``cluster.local.yaml`` is brought up, loses a host in the middle of a campaign, and ends it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[2]
DASHBOARD, MLFLOW = 18265, 15000  # ports of this end of the tunnels
UNITS, EPOCHS = 12, 60  # units an arm in each block, and epochs of each


def say(words):
    print(f"[{time.strftime('%H:%M:%S')}] {words}", flush=True)


@pytest.fixture
def protocol(content):
    training = {**content["training"], "epochs": EPOCHS}
    return content | {"units_per_arm": UNITS, "training": training}


@pytest.fixture
def laptop(tmp_path):
    """Return a function that runs Ray's command line as a user's laptop does: token, home, key."""
    home = tmp_path / "laptop"
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    env |= {"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_UP_enable_autoscaler_v2": "0"}

    def ray(*words, check=True, seconds=300):
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *map(str, words)],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        say(f"ray {words[0]} {words[1] if len(words) > 1 else ''}: exit code {done.returncode}")
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    ray("get-auth-token", "--generate")
    return ray


@pytest.fixture
def cluster(hosts, tmp_path):
    """The file as a user would edit it; as hosts have no network, they share this environment."""
    content = yaml.safe_load((ROOT / "cluster.local.yaml").read_text())
    head, *workers = hosts
    content["provider"] |= {
        "head_ip": head.address,
        "worker_ips": [worker.address for worker in workers],
    }
    content["auth"] = {"ssh_user": "root", "ssh_private_key": str(tmp_path / "key")}
    content["file_mounts"]["~/.ray/auth_token"] = str(tmp_path / "laptop/.ray/auth_token")
    content["setup_commands"] = [f"ln -sfn {sys.prefix} ~/atat-ray/.venv"]
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def tunnels(tmp_path, head):
    """Open what docs/cluster.md names, at other ports of this end."""
    ssh = ["ssh", "-N", "-i", str(tmp_path / "key"), "-o", "StrictHostKeyChecking=no",
           "-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes", "-q",
           "-L", f"{DASHBOARD}:127.0.0.1:8265", "-L", f"{MLFLOW}:127.0.0.1:5000",
           f"root@{head.address}"]  # fmt: skip
    process = subprocess.Popen(ssh)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def answer(url, token=""):
    """Ask for a page; return the HTTP status, or 0 where nothing answers."""
    request = urllib.request.Request(url)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=5) as page:
            return page.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(1)


def ends_of(folder):
    """Map each finished unit to the host that ran it and the time of its end."""
    found = {}
    for path in folder.glob("units/*/outcome.json"):
        place = json.loads((path.parent / "place.json").read_text())
        found[path.parent.name] = place["node"], path.stat().st_mtime
    return found


def test_a_cluster_that_loses_a_host_ends_with_the_table_of_one_machine(
    hosts, cluster, laptop, protocol, tmp_path, table_of
):
    head, _, leaving = hosts
    shared = tmp_path / "shared"
    (shared / "tiny.yaml").write_text(yaml.safe_dump(protocol))
    laptop("up", cluster, "-y", "--no-config-cache")
    token = (tmp_path / "laptop/.ray/auth_token").read_text().strip()
    dashboard, record = f"http://127.0.0.1:{DASHBOARD}", f"http://127.0.0.1:{MLFLOW}"
    with tunnels(tmp_path, head):
        until(lambda: answer(f"{dashboard}/api/version", token) == 200, 60, lambda: "no dashboard")
        until(lambda: answer(f"{record}/health") == 200, 120, lambda: "no MLflow")
        say("dashboard and MLflow answer through the tunnels")
        assert answer(f"{dashboard}/api/version") == 401  # without the token
        for port in (8265, 5000):
            assert answer(f"http://{head.address}:{port}/") == 0  # without a tunnel
        folder = shared / "campaign"
        atat = "cd ~/atat-ray && .venv/bin/python -m trials.cli run ~/shared/tiny.yaml"
        atat += " --out ~/shared/campaign --tracking-uri http://127.0.0.1:5000"
        job = ["--address", dashboard]
        laptop("job", "submit", *job, "--no-wait", "--submission-id", "tiny", "--",
               "bash", "-c", atat)  # fmt: skip

        def said():
            return laptop("job", "logs", *job, "tiny", check=False)

        def status():
            found = laptop("job", "status", *job, "tiny", check=False).upper()  # "succeeded" it is
            assert "FAILED" not in found, said()
            return found

        def on(host, after=0.0):
            return [u for u, (node, end) in ends_of(folder).items() if node == host and end > after]

        until(lambda: status() and on(leaving.name) and on(hosts[1].name), 240, said)
        leaving.power_off()
        say(f"{leaving.name} is away; {len(ends_of(folder))} units have ended")
        before = len(ends_of(folder))
        until(lambda: len(ends_of(folder)) >= before + 2, 240, said)
        leaving.power_on()
        back = time.time()
        say(f"{leaving.name} has power; {len(ends_of(folder))} units have ended")

        until(lambda: time.sleep(5) or "SUCCEEDED" in status(), 900, said)
        say(said())
        assert "was lost and will run again" in said()
        assert on(leaving.name, back), "the host came back and ran units"
        found = table_of(folder, record)
        assert "Exception occurred" not in laptop("down", cluster, "-y")  # `ray stop` on the head

    def left():
        commands = [(host.name, words) for host in hosts for words in host.commands()]
        return [(name, words[:80]) for name, words in commands if "/raylet/raylet " in words]

    until(lambda: not left(), 180, left)
    alone = [sys.executable, "-m", "trials.cli", "run", shared / "tiny.yaml"]
    alone += ["--out", tmp_path / "alone"]
    subprocess.run([str(word) for word in alone], check=True, cwd=tmp_path, timeout=600)
    assert found == table_of(tmp_path / "alone")
    say("the table is that of one machine, byte for byte")
