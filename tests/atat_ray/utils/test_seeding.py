import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atat_ray.utils.seeding import (
    BatchDraws,
    PartDraws,
    derive_seed,
    generator,
    generator_on,
    seeded,
)


def test_derived_seeds_are_pinned():
    # printf '7\0unit\0train' | sha256sum, first 16 hex digits, halved
    assert derive_seed(7, "unit", "train") == derive_seed("7", "unit", "train")
    assert derive_seed("a") == 0xCA978112CA1BBDCA >> 1


@given(st.lists(st.text(alphabet="abc", max_size=3), min_size=1, max_size=4))
def test_different_parts_give_different_seeds(parts):
    assert derive_seed(*parts) != derive_seed(*parts, "x")
    assert 0 <= derive_seed(*parts) < 2**63
    joined = "".join(parts)
    assert len(parts) == 1 or derive_seed(*parts) != derive_seed(joined)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_together_draw_the_numbers_of_one_worker(workers):
    like = torch.zeros(6)
    share = like[: 6 // workers]

    def all_draws(draws, like):
        return [
            draws.uniform(-1.0, 2.0, like, 3),
            draws.integers(1, 9, like),
            draws.flips(like),
        ]

    whole = all_draws(BatchDraws(generator(1)), like)
    parts = [
        all_draws(BatchDraws(generator(1), rank=rank, world_size=workers), share)
        for rank in range(workers)
    ]
    for kind, expected in enumerate(whole):
        for rank in range(workers):
            assert torch.equal(parts[rank][kind], expected[rank::workers])


def test_a_part_draws_its_rows_of_the_whole():
    whole = BatchDraws(generator(1)).uniform(0.0, 1.0, torch.zeros(6), 2)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        part = PartDraws(generator(1), rows=rows, total=6)
        assert torch.equal(part.uniform(0.0, 1.0, torch.zeros(6)[rows], 2), whole[rows])


def test_seeding_inside_a_block_does_not_change_the_generator_outside():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(1):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(1):
        assert torch.equal(torch.rand(2), inside)


def test_a_generator_of_a_device_depends_on_the_source_alone():
    source, again = generator(1), generator(1)
    first, second = (generator_on(torch.device("cpu"), source) for _ in range(2))
    repeated = generator_on(torch.device("cpu"), again)
    numbers = torch.rand(4, generator=first)
    assert torch.equal(numbers, torch.rand(4, generator=repeated))
    assert not torch.equal(numbers, torch.rand(4, generator=second))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_many_numbers_for_all_workers_alike():
    like = torch.zeros(6, device="cuda")
    whole = BatchDraws(generator(1)).uniform(-1.0, 2.0, like, 3, 128, 128)
    assert whole.is_cuda
    assert -1 <= float(whole.min()) < float(whole.max()) < 2
    for rank in range(2):
        part = BatchDraws(generator(1), rank=rank, world_size=2)
        assert torch.equal(part.uniform(-1.0, 2.0, like[:3], 3, 128, 128), whole[rank::2])
