"""benchmarks/gpu.py: it runs with torch and torchvision alone, and loses nothing."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from gpu_parts.advice import Workload, advise, best_batch
from gpu_parts.agreement import OPTIONS
from gpu_parts.attack_speed import ppa_label
from gpu_parts.graphs import Graphed, graphed, graphed_ppa_step
from gpu_parts.scenes import atat, make_faces, make_loop, make_target, make_warped
from gpu_parts.session import Bench, LeftOut, Part, Row, read_rows, run_parts
from gpu_parts.sizes import FULL, SMALL, TINY, TOY
from gpu_parts.tables import table
from gpu_parts.timing import count_operations
from gpu_parts.training_speed import step_label
from gpu_parts.transfers import transfers

from atat_ray.defenses.registry import DEFENSES
from atat_ray.inversion.optimization import adam, take_step
from atat_ray.inversion.ppa import Ppa
from atat_ray.utils.precision import true_float32
from atat_ray.utils.seeding import BatchDraws, generator
from trials.config.load import read_protocol

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def needed(names):
    """The distributions that these need, themselves included."""
    found, left = {}, list(names)
    while left:
        name = left.pop()
        if name.lower() in found:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another platform
            continue
        found[name.lower()] = package
        for line in package.requires or ():
            if "extra ==" not in line:
                left.append(
                    line.split(";")[0].split("[")[0].split(" ")[0].rstrip("><=!~.0123456789,")
                )
    return found.values()


@pytest.fixture
def torch_alone(tmp_path):
    """A folder to import from that holds torch, torchvision and what they need, nothing else."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for package in needed(["torch", "torchvision"]):
        for top in {Path(str(file)).parts[0] for file in package.files or ()}:
            source, link = Path(str(package.locate_file(top))), folder / top
            if top not in ("..", "__pycache__") and source.exists() and not link.exists():
                link.symlink_to(source)
    return folder


def test_everything_runs_with_torch_and_torchvision_alone(torch_alone, tmp_path):
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(torch_alone),
    }  # fmt: skip
    command = [
        sys._base_executable,
        "-S",
        str(ROOT / "benchmarks" / "gpu.py"),
        "--tiny",
        "--minutes",
        "30",
    ]
    result = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    rows = json.loads((tmp_path / "out" / "gpu.json").read_text())["rows"]
    verdicts = {row["verdict"] for row in rows}
    assert verdicts == {"agrees", "measured", "left out"}
    left_out = {row["what"] for row in rows if row["verdict"] == "left out"}
    assert "APGD" in left_out
    parts = {row["part"] for row in rows}
    assert parts == {
        "machine", "precision", "agreement", "placement", "training", "attack", "repeats",
        "embedded", "compiled", "advice",
    }  # fmt: skip
    text = (tmp_path / "out" / "gpu.md").read_text()
    assert "Tiny networks" in text
    assert "left out without pyautoattack: APGD" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes must be above 0, got 0"),
        (["--parts", "speed"], "there is no part speed; choose from machine"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, arguments, message):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--out", str(tmp_path)]
    result = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_part_that_hangs_dies_or_raises_loses_only_what_it_has_not_written(tmp_path):
    def hangs(bench):
        bench.write("before", "measured")
        time.sleep(60)

    def dies(bench):
        bench.write("before", "measured")
        os._exit(7)

    def raises(bench):
        bench.write("before", "measured")
        raise KeyError("no\nsuch row")

    def works(bench):
        bench.measure("memory", lambda: torch.empty(2**60))
        bench.measure("package", lambda: left_out())
        bench.measure("rate", lambda: {"images a second": 2.0})

    def left_out():
        raise LeftOut("it is not installed")

    parts = [
        Part(name=f.__name__, title="", share=share, run=f)
        for f, share in ((hangs, 1), (dies, 100), (raises, 100), (works, 100))
    ]
    done = []
    script = lambda part, seconds: done.append(part.name)  # noqa: E731
    run_parts(parts, TINY, tmp_path, seconds=30, after_part=script)
    rows = {(row.part, row.what): row for row in read_rows(tmp_path)}
    assert done == ["hangs", "dies", "raises", "works"]
    assert all((name, "before") in rows for name in done[:3])
    assert rows["hangs", "rest"].verdict == "out of time"
    assert "code 7" in rows["dies", "rest"].note
    assert rows["raises", "the rest of the part"].note == "KeyError: 'no\\nsuch row'"
    assert rows["works", "memory"].verdict == "failed"
    assert rows["works", "package"].verdict == "left out"
    assert rows["works", "rate"].numbers == {"images a second": 2.0}


def test_a_part_without_time_says_what_it_did_not_measure(tmp_path):
    bench = Bench("part", CPU, TINY, tmp_path, limit=0)
    bench.measure("speed", lambda: {"images a second": 1.0})
    assert [row.verdict for row in read_rows(tmp_path)] == ["out of time"]


def test_a_difference_from_the_cpu_is_told(tmp_path):
    bench = Bench("part", CPU, TINY, tmp_path, limit=60)
    one = torch.ones(4)
    bench.compare("near", lambda: (one * 1.001, one), tolerance=0.01)
    bench.compare("far", lambda: (one * 1.1, one), tolerance=0.01)
    assert [row.verdict for row in read_rows(tmp_path)] == ["agrees", "differs"]


def test_every_defense_is_checked():
    assert set(OPTIONS) == set(DEFENSES)


def test_the_workload_is_that_of_the_protocol():
    protocol = read_protocol("facescrub-rct")
    ppa = protocol.inversions["standard"].attack
    load = Workload()
    assert load.people == protocol.data.num_private
    assert load.train_share == protocol.data.train_share
    assert load.epochs == protocol.training.epochs
    assert load.evaluation_epochs == protocol.evaluation.training.epochs
    assert load.blocks == len(protocol.blocks)
    assert load.units == protocol.units_per_arm * len(protocol.blocks)
    assert (load.samples, load.candidates, load.steps) == (ppa.samples, ppa.candidates, ppa.steps)
    assert load.views == ppa.views
    assert load.radii == len(protocol.robustness.epsilons)


def measured(what, **numbers):
    return Row(part="part", what=what, verdict="measured", numbers=numbers)


def test_the_advice_takes_the_smallest_batch_that_is_nearly_fastest():
    speeds = {1: 10.0, 4: 30.0, 8: 30.5, 16: 20.0}
    found = {
        ppa_label(batch, False): {"candidate-steps a second": speed}
        for batch, speed in speeds.items()
    }
    assert best_batch(found, FULL) == (4, False, 30.0)


def test_the_advice_counts_hours_and_names_what_was_not_measured():
    network = FULL.trained[-1]
    rows = [
        measured("GPU", **{"name": "made", "MiB": 81920}),
        measured(
            step_label(network, "AT-AT, K = 5"), **{"images a second": 100.0, "peak MiB": 30000.0}
        ),
        measured(step_label(network, "AT-AT, K = 5", "contiguous"), **{"images a second": 50.0}),
    ]
    advice = {row.what: row for row in advise(rows, FULL)}
    hours = advice["facescrub-rct: training, treatment"].numbers
    assert hours["hours of one"] == pytest.approx(37_878 * 0.9 * 50 / 100 / 3600)
    assert advice["facescrub-rct: in all"].numbers["hours in all"] == hours["hours in all"]
    assert "PPA, search" in advice["facescrub-rct: in all"].note
    assert advice[f"channels last over contiguous: {network}"].numbers["ratio"] == 2
    assert advice["gpu_share of resnet152"].numbers["gpu_share"] == 0.4


def test_the_table_has_a_column_for_each_number():
    lines = table([measured("a", x=0.1234567), measured("b", y=1234.5)])
    assert lines[0] == "|  | verdict | x | y | note |"
    assert lines[2:] == ["| a | measured | 0.123 |  |  |", "| b | measured |  | 1234 |  |"]


@pytest.mark.parametrize(
    ("kind", "work"),
    [
        ("to device", lambda x: torch.ones(2).to(x.device)),
        ("to CPU", lambda x: x.cpu()),
        ("wait _local_scalar_dense", lambda x: x.sum().item()),
        ("wait index by booleans", lambda x: x[x > 0]),
        ("wait nonzero", lambda x: x.nonzero()),
        ("mixed mm", lambda x: x @ torch.ones(2, 2)),
        ("mixed gather", lambda x: x.gather(1, torch.zeros(2, 1, dtype=torch.long))),
    ],
)
def test_each_kind_of_wait_is_counted(kind, work):
    meta = torch.device("meta")
    images = torch.ones(2, 2, device=meta)
    counts = {}
    try:
        with transfers(meta) as counts:
            work(images)
    except (RuntimeError, NotImplementedError):  # the meta device has no values to wait for
        pass
    assert counts == {kind: 1}


def test_operations_are_counted_forward_and_backward():
    weights, images = torch.ones(3, 2, 3, 3, requires_grad=True), torch.ones(1, 2, 6, 6)
    images.requires_grad_()

    def step():
        torch.autograd.grad(torch.conv2d(images, weights).sum(), images)

    assert count_operations(step) == 2 * (2 * 3 * 2 * 9 * 16)


def test_inner_steps_behind_the_graph_function_are_those_of_the_defense():
    with true_float32():
        terms = []
        for defense in (atat(), Graphed(atat())):
            faces = make_faces(TOY, CPU, classes=4)
            loop = make_loop(make_target(TOY, CPU, classes=4), faces, defense)
            terms.append(loop.step(torch.arange(len(faces))))
    assert terms[0].keys() == terms[1].keys()
    assert all(torch.equal(value, terms[1][name]) for name, value in terms[0].items())


def test_a_step_of_ppa_behind_the_graph_function_is_that_of_the_attack():
    ppa, classes = Ppa.from_preset("quick"), torch.arange(4)
    target = make_target(SMALL, CPU, classes=4).eval()
    prior = make_warped(CPU, size=SMALL.side)
    synthesize = lambda state: prior.synthesize(state[0])  # noqa: E731
    found = []
    for graph in (False, True):
        state = (prior.sample_latents(4, generator("latents")),)
        draws = BatchDraws(generator("crops"))
        if graph:
            step = graphed_ppa_step(target, synthesize, state, classes, ppa, draws)
            step()
        else:
            optimizer = adam(state, [ppa.learning_rate], ppa)
            take_step(target, synthesize, state, classes, ppa, draws, optimizer)
        found.append(state[0].detach())
    assert torch.equal(found[0], found[1])


def test_without_a_gpu_the_graph_function_returns_its_function():
    assert graphed(torch.sin, torch.ones(1)) is torch.sin


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_replayed_graph_gives_the_results_of_its_function():
    cuda = torch.device("cuda")
    replay = graphed(lambda x: (x * 2).sin(), torch.zeros(8, device=cuda))
    new = torch.arange(8.0, device=cuda)
    assert torch.equal(replay(new), (new * 2).sin())
