"""A campaign that loses its driver, a node or its record for a while ends with the same table."""

import os
import random
import shutil
import signal
import time

import pytest
from mlflow_server import Server

pytestmark = [pytest.mark.slow, pytest.mark.ray]

KILLS = 20
SEED = 20261124


@pytest.fixture
def protocol(content, write_protocol):
    """Four units an arm in two blocks, trained for long enough to be met while they run."""
    training = {**content["training"], "epochs": 20}
    return write_protocol(content | {"units_per_arm": 4, "training": training})


@pytest.fixture(scope="module")
def kept():
    """What this module has made once."""
    return {}


@pytest.fixture
def undisturbed(kept, run_whole, protocol, tmp_path, table_of):
    """The table of a campaign that nothing happened to, and the seconds that it took."""
    if not kept:
        start = time.monotonic()
        run_whole(protocol, tmp_path / "undisturbed", "--at-a-time", "2")
        kept["seconds"] = time.monotonic() - start
        kept["table"] = table_of(tmp_path / "undisturbed")
    return kept["table"], kept["seconds"]


def end_by_themselves(one, seconds=60):
    """Wait until nothing is left of a session whose driver was killed; return the seconds."""
    start = time.monotonic()
    while one.family():
        waited = time.monotonic() - start
        assert waited < seconds, [process.cmdline()[:3] for process in one.family()]
        time.sleep(0.2)
    return time.monotonic() - start


def test_a_driver_killed_at_twenty_random_moments_leaves_the_undisturbed_table(
    driver, protocol, tmp_path, table_of, undisturbed
):
    """Moments are uniform over a run, its start included; a campaign that ends makes room for the
    next. Every other kill leaves Ray's own processes to end by themselves, which may be after the
    resumed driver has started; the others take the whole session, as a power cut does.
    """  # fmt: skip
    expected, whole = undisturbed
    moments, orphans, kills, campaigns = random.Random(SEED), [], 0, 0
    while kills < KILLS:
        folder, over = tmp_path / f"killed-{campaigns}", False
        campaigns += 1
        while not over:
            one = driver("run", protocol, folder, "--at-a-time", "2")
            moment = moments.uniform(0, 0.8 * whole)
            end = time.monotonic() + moment if kills < KILLS else float("inf")
            while one.process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            over = one.process.poll() is not None
            if over:
                assert one.process.returncode == 0, one.said()
                continue
            met = f"{len(one.finished())} finished, {len(one.running())} begun"
            if kills % 2:
                one.kill()
            else:
                os.kill(one.process.pid, signal.SIGKILL)
                one.process.wait()
                orphans.append(one)
            kills += 1
            print(f"kill {kills} of campaign {campaigns} after {moment:.1f} s: {met}", flush=True)
        assert table_of(folder) == expected
    waits = [end_by_themselves(one) for one in orphans]
    print(f"{kills} kills, {campaigns} campaigns, undisturbed {whole:.1f} s; the last processes of "
          f"a killed driver ended {max(waits):.1f} s after all was over")  # fmt: skip


@pytest.fixture
def server(tmp_path, empty_database, monkeypatch):
    """A running MLflow server, which campaigns write to."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    one = Server(folder)
    one.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", one.uri)
    yield one
    one.stop()


def test_a_record_that_was_away_for_a_while_is_whole(
    driver, protocol, tmp_path, table_of, undisturbed, server
):
    folder = tmp_path / "away"
    one = driver("run", protocol, folder, "--at-a-time", "1")
    one.until(lambda: len(one.finished()) >= 2)
    server.stop()
    one.until(lambda: len(one.finished()) >= 5)
    server.start()
    assert one.wait() == 0, one.said()
    assert one.said().count("the record cannot be reached, the run goes on") == 1
    assert "the record can be reached again" in one.said()
    assert table_of(folder) == undisturbed[0]


def test_a_record_that_was_away_while_the_driver_was_killed_is_whole(
    driver, protocol, tmp_path, table_of, undisturbed, server
):
    folder = tmp_path / "away-and-killed"
    one = driver("run", protocol, folder, "--at-a-time", "1")
    one.until(lambda: len(one.finished()) >= 2)
    server.stop()
    one.until(lambda: len(one.finished()) >= 4)
    one.kill()
    two = driver("resume", "tiny", folder, "--at-a-time", "1")
    two.until(lambda: len(two.finished()) >= 7)
    server.start()
    assert two.wait() == 0, two.said()
    assert "the record cannot be reached and will be written later" in two.said()
    assert table_of(folder) == undisturbed[0]


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster of a head without CPUs and two nodes of one CPU, which campaigns run on."""
    from ray.cluster_utils import Cluster

    from trials.execution.ray_cluster import RAY_ENVIRONMENT

    for name, value in {**RAY_ENVIRONMENT, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    nodes = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    whole = Cluster(initialize_head=True, head_node_args=nodes | {"num_cpus": 0})
    made = [whole.add_node(**nodes) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", whole.address)
    yield whole, made, nodes
    whole.shutdown()


@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_a_node_that_is_lost_costs_its_unit_another_run(
    driver, protocol, tmp_path, table_of, undisturbed, cluster
):
    whole, nodes, options = cluster
    folder = tmp_path / "node"
    one = driver("run", protocol, folder)
    one.until(lambda: len(one.finished()) >= 2 and len(one.running()) == 2)
    whole.remove_node(nodes[1], allow_graceful=False)
    one.until(lambda: "was lost and will run again (1 of 2 times)" in one.said())
    whole.add_node(**options)
    assert one.wait() == 0, one.said()
    assert table_of(folder) == undisturbed[0]
