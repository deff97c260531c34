from functools import partial

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import distributed, nn

from atat_ray.unit import run_unit
from atat_ray.unit.computed_on import read_processes
from atat_ray.unit.distributed import (
    SharedBatchNorm2d,
    run_jobs_on_workers,
    share_batch_norm,
    train_on_workers,
)
from atat_ray.unit.jobs import run_serially
from atat_ray.unit.train_stage import train_here
from atat_ray.utils.messages import lines_to, tell
from atat_ray.utils.seeding import generator

WORKERS = 2
CPU = {"CPU": 1.0}  # of each


def normalise(rank, path, images, weights):
    """Normalise this worker's images; save outputs, gradients and running statistics."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{path}/rendezvous", rank=rank, world_size=WORKERS
    )
    layer = SharedBatchNorm2d(3)
    mine = images[rank::WORKERS].clone().requires_grad_()
    output = layer(mine)
    (output * weights[rank::WORKERS]).sum().backward()
    result = {"output": output.detach(), "gradient": mine.grad, "state": layer.state_dict()}
    torch.save(result, path / f"{rank}.pt")
    distributed.destroy_process_group()


def test_batch_norm_over_workers_is_batch_norm_over_their_images(tmp_path):
    images = torch.randn(8, 3, 5, 5, generator=generator(1)) * 2 + 1
    weights = torch.randn(8, 3, 5, 5, generator=generator(2))
    multiprocessing.spawn(normalise, (tmp_path, images, weights), nprocs=WORKERS)
    whole, layer = images.clone().requires_grad_(), nn.BatchNorm2d(3)
    output = layer(whole)
    (output * weights).sum().backward()
    for rank in range(WORKERS):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.allclose(found["output"], output[rank::WORKERS], atol=1e-5)
        assert whole.grad is not None
        assert torch.allclose(found["gradient"], whole.grad[rank::WORKERS], atol=1e-5)
        for name in ("running_mean", "running_var"):
            assert torch.allclose(found["state"][name], layer.state_dict()[name], atol=1e-5)


def test_a_frozen_batch_norm_stays_frozen_when_it_is_shared():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2).requires_grad_(False))
    shared = share_batch_norm(model)
    assert [p.requires_grad for p in shared.parameters()] == [True, True, False, False]


def test_in_evaluation_mode_shared_batch_norm_needs_no_workers():
    model = share_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2))))
    assert type(model[1][0]) is SharedBatchNorm2d
    assert model.eval()(torch.rand(1, 1, 5, 5)).shape == (1, 2, 3, 3)


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
@pytest.mark.parametrize(
    ("arm", "learning_rate", "tolerance"), [("control", 0.003, 1e-4), ("treatment", 1e-5, 2e-3)]
)
def test_two_workers_train_what_one_process_trains(
    local_ray, tiny_protocol, content, tmp_path, arm, learning_rate, tolerance
):
    """Workers share one global batch: the curves are those of one process within float32.

    PGD takes signs of gradients, where rounding can become a step of its full size; the treatment
    learns slowly here so that such steps do not add up.
    """
    training = {**content["training"], "learning_rate": learning_rate}
    protocol = tiny_protocol(workers=WORKERS, training=training)
    spec = protocol.unit_spec("split-0-01", "split-0", arm)
    state, curves = train_on_workers(spec, tmp_path / "two", share=CPU)
    expected_state, expected = train_here(spec, tmp_path / "one")
    assert len(curves) == len(expected) == 2
    for row, by_one in zip(curves, expected, strict=True):
        for name in row.keys() - {"decoy_hit_rate"}:  # a count jumps
            assert row[name] == pytest.approx(by_one[name], rel=tolerance), name
    assert state.keys() == expected_state.keys()
    for name, value in expected_state.items():
        assert torch.allclose(state[name].float(), value.float(), atol=1e-2), name


def fail(number):
    raise KeyError(f"part {number}")


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_parts_on_workers_give_the_results_of_one_process(
    local_ray, tiny_protocol, content, tmp_path
):
    ppa = content["inversions"]["standard"]["ppa"] | {"batch_classes": 2}
    standard = content["inversions"]["standard"] | {"ppa": ppa}
    protocol = tiny_protocol(
        inversions={"standard": standard}, robustness=content["robustness"] | {"chunk": 4}
    )
    spec = protocol.unit_spec("split-0-01", "split-0", "treatment")
    on_workers = partial(run_jobs_on_workers, workers=WORKERS, folder=tmp_path, share=CPU)
    outcomes = []
    for name, run_jobs in [("one", run_serially), ("two", on_workers)]:
        found = run_unit(spec, assets=tmp_path, folder=tmp_path / name, run_jobs=run_jobs)
        outcomes.append({key: value for key, value in found.items() if key != "seconds"})
    assert outcomes[0] == outcomes[1]
    one, two = (
        torch.load(tmp_path / name / "invert-standard.pt", weights_only=True)
        for name in ("one", "two")
    )
    assert torch.equal(one["images"], two["images"])
    (process,) = read_processes(tmp_path)
    assert process["threads"] == "1"


def report(number):
    tell(f"line {number}")


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_lines_for_the_user_come_back_from_the_workers(local_ray, tmp_path):
    lines = []
    with lines_to(lines.append):
        jobs = [partial(report, n) for n in range(3)]
        run_jobs_on_workers(jobs, workers=2, folder=tmp_path, share=CPU)
    assert lines == [f"line {n}" for n in range(3)]


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray warns of its own settings
def test_the_exception_of_a_failed_part_is_raised(local_ray, tmp_path):
    options = {"folder": tmp_path, "share": CPU}
    jobs = [partial(sum, [1]), partial(fail, 1), partial(sum, [2])]
    with pytest.raises(KeyError, match="part 1"):
        run_jobs_on_workers(jobs, workers=1, **options)
    jobs = [partial(sum, [n]) for n in range(5)]
    assert run_jobs_on_workers(jobs, workers=2, **options) == list(range(5))
