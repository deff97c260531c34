"""Sparse coding and the two defenses made of it, written a second time."""

from copy import deepcopy

import pytest
import torch
from scipy.optimize import nnls
from small import TRAINING, begun, draws, nll, small
from torch import nn

from atat_ray.data import Faces
from atat_ray.defenses import DEFENSES, sparse_standard
from atat_ray.models import build_target
from atat_ray.models.sparse_coding import SparseCoding, gain, largest_gain
from atat_ray.training import train
from atat_ray.utils.seeding import generator


def coding(*, seed="dictionary", **options):
    defaults = {"channels": 1, "atoms": 3, "kernel": 4, "stride": 2, "threshold": 0.3}
    made = SparseCoding(
        **{**defaults, "tau": 40.0, "iterations": 30, **options}, generator=generator(seed)
    )
    return made.double().eval()


def dense(layer, side):
    """The dictionary as a matrix whose columns are atoms at their places in a padded image."""
    atoms, channels, kernel, _ = layer.dictionary.shape
    before, after = layer.padding[0], layer.padding[1]
    padded, places = side + before + after, side // layer.stride
    columns = torch.zeros(atoms, places, places, channels, padded, padded, dtype=torch.float64)
    for y in range(places):
        for x in range(places):
            top, left = y * layer.stride, x * layer.stride
            place = (slice(None), y, x, slice(None))
            columns[*place, top : top + kernel, left : left + kernel] = layer.dictionary
    return columns.flatten(3).flatten(0, 2).T


def standardised(image, padding):
    """Mean 0 and sample variance 1, with zeros outside, as in the published code."""
    image = (image - image.mean()) / (image.std(correction=1) + 1e-12)
    return nn.functional.pad(image, padding).flatten()


def test_sparse_codes_are_the_minimum_of_their_objective():
    """By non-negative least squares on the dense dictionary, by another algorithm altogether."""
    layer = coding(tau=6.0, iterations=600)
    image = torch.rand(1, 1, 8, 8, generator=generator("image")).double()
    with torch.no_grad():
        codes = layer(image).flatten()
    inputs, matrix = standardised(image, layer.padding), dense(layer, 8)

    def objective(a):
        return 0.5 * float((inputs - matrix @ a).square().sum()) + 0.3 * float(a.sum())

    # |x - D a|^2 / 2 + t sum a = |L' a - L^-1 (D' x - t)|^2 / 2 + const with L L' = D' D
    gram = matrix.T @ matrix + 1e-9 * torch.eye(48)
    lower = torch.linalg.cholesky(gram)
    right = torch.linalg.solve_triangular(
        lower, (matrix.T @ inputs - 0.3)[:, None], upper=False
    ).squeeze(1)
    best = torch.from_numpy(nnls(lower.T.numpy(), right.numpy())[0])
    assert codes.min() >= 0
    assert 0 < int((codes > 0).sum()) < 48
    assert objective(codes) == pytest.approx(objective(best), rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": 5, "stride": 1, "atoms": 4, "threshold": 0.1},
        {"kernel": 7, "stride": 1, "channels": 3, "threshold": 0.25},
        {"kernel": 5, "stride": 1, "channels": 4, "atoms": 6, "iterations": 60},
        {"kernel": 5, "stride": 2, "atoms": 6},
        {"kernel": 5, "stride": 4, "atoms": 2},
        {"kernel": 4, "stride": 2, "iterations": 2, "threshold": 0.02},
        {"kernel": 5, "stride": 1, "iterations": 11, "threshold": 0.5},
    ],
)
def test_codes_are_those_of_the_published_rounds(options):
    """Threshold, then update, for each round; the codes of the last threshold are the result."""
    layer = coding(**options)
    channels = layer.dictionary.shape[1]
    image = torch.rand(1, channels, 8, 8, generator=generator("image")).double()
    matrix = dense(layer, 8)
    inhibition = matrix.T @ matrix
    inhibition -= inhibition.diagonal().diag()
    drive = matrix.T @ standardised(image, layer.padding)
    u = torch.zeros_like(drive)
    for _ in range(layer.iterations):
        codes = (u - layer.threshold).relu()
        u = u + (drive - u - inhibition @ codes) / layer.tau
    assert (codes > 0).any()
    assert torch.allclose(layer(image).flatten(), codes, atol=1e-12)
    if layer.dictionary.shape[-1] % 2:
        assert set(layer.padding) == {layer.dictionary.shape[-1] // 2}


def test_the_gradient_of_many_iterations_is_that_of_all_of_them():
    """Parts of a long run are repeated for the gradient instead of kept."""
    layer = coding(kernel=5, stride=1, iterations=100)
    image = torch.rand(1, 1, 8, 8, generator=generator("image")).double().requires_grad_()
    weights = torch.rand(1, 3, 8, 8, generator=generator("weights")).double()
    (found,) = torch.autograd.grad((layer(image) * weights).sum(), image)
    whole = (image - image.mean()) / (image.std() + 1e-12)
    drive = nn.functional.conv2d(whole, layer.dictionary, padding=2)
    u = torch.zeros_like(drive)
    for _ in range(99):
        codes = (u - layer.threshold).relu()
        rest = nn.functional.conv2d(codes, layer.lateral(), padding=4)
        u = u + (drive - u - rest) / layer.tau
    codes = (u - layer.threshold).relu()
    (expected,) = torch.autograd.grad((codes * weights).sum(), image)
    assert torch.allclose(found, expected, rtol=1e-9)
    constant = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64, requires_grad=True)
    (nothing,) = torch.autograd.grad(layer(constant).sum(), constant)
    assert torch.equal(nothing, torch.zeros_like(nothing))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": 4, "stride": 2, "atoms": 6},
        {"kernel": 5, "stride": 1, "atoms": 16},
        {"kernel": 5, "stride": 1, "atoms": 5, "channels": 3},
        {"kernel": 5, "stride": 3, "atoms": 4},
        {"kernel": 4, "stride": 4, "atoms": 20},
    ],
)
def test_the_gain_is_the_largest_eigenvalue_of_the_dictionary(options):
    """That of the dense matrix of an image, from below: the larger the image, the closer."""
    layer = coding(**options)
    found = gain(layer.dictionary, layer.stride)
    matrix = dense(layer, 8 * layer.stride)
    largest = float(torch.linalg.matrix_norm(matrix, ord=2)) ** 2
    assert 0.7 * found < largest < found * (1 + 1e-9)
    atoms, _, kernel, _ = layer.dictionary.shape
    assert found <= largest_gain(atoms, kernel, layer.stride)
    same = torch.full((atoms, 1, kernel, kernel), 1 / kernel)
    if kernel % layer.stride == 0:
        most = largest_gain(atoms, kernel, layer.stride)
        assert gain(same, layer.stride) == pytest.approx(most)


@pytest.mark.parametrize("options", [{}, {"kernel": 5, "stride": 1, "atoms": 16}])
@torch.no_grad()
def test_codes_settle_above_half_the_gain_and_a_tau_below_is_refused(options):
    bound = gain(coding(**options).dictionary, options.get("stride", 2)) / 2
    image = torch.rand(1, 1, 8, 8, generator=generator("image")).double()
    layer = coding(tau=1.01 * bound, iterations=500, **options)
    before = layer(image)
    layer.iterations += 1
    assert torch.allclose(layer(image), before, atol=1e-2)
    with pytest.raises(ValueError, match=r"tau .* is too small .*; set tau to \d+ or more"):
        coding(tau=0.99 * bound, **options)


@torch.no_grad()
def test_codes_grow_without_bound_at_a_tau_that_is_refused():
    layer = coding(kernel=5, stride=1, atoms=16)
    layer.tau, layer.iterations = 1.0, 30
    assert layer(torch.rand(1, 1, 8, 8, generator=generator("image")).double()).max() > 1e6


def test_a_tau_that_is_too_small_is_refused_with_one_that_is_safe():
    defense = DEFENSES["sparse_standard"]
    with pytest.raises(ValueError, match=r"tau 1 is too small for this dictionary.*set tau to \d"):
        small(defense(threshold=0.3, tau=1.0))
    with pytest.raises(ValueError, match=r"tau 5 is too small .* learned: .*at 12 or less; set "
                       "tau to 24 or more"):  # fmt: skip
        defense(threshold=0.3, dictionary_rate=0.01)
    with pytest.raises(ValueError, match=r"tau 2 is too small for this dictionary"):
        small(DEFENSES["sca"](threshold=0.3, tau=2.0))
    with pytest.raises(ValueError, match=r"two counts, each 1 or more, .* got \[4, 0\]"):
        DEFENSES["sca"](threshold=0.3, atoms=(4, 0))
    with pytest.raises(ValueError, match=r"iterations must be 2 or more, got 1; the codes"):
        DEFENSES["sca"](threshold=0.3, iterations=1)
    for options in (defense.presets["reference"], {"threshold": 0.3, "tau": 24.0,
                                                   "dictionary_rate": 0.01}):  # fmt: skip
        small(defense(**options))
    small(DEFENSES["sca"](**DEFENSES["sca"].presets["reference"]))


def by_hand(layer, maps):
    """Codes of one published layer of 5 x 5 atoms, by convolutions."""
    conv = nn.functional.conv2d
    deviation = maps.std(dim=(1, 2, 3), keepdim=True) + 1e-12
    drive = conv((maps - maps.mean(dim=(1, 2, 3), keepdim=True)) / deviation, layer.dictionary,
                 padding=2)  # fmt: skip
    own = torch.zeros_like(conv(layer.dictionary, layer.dictionary, padding=4))
    own[range(len(own)), range(len(own)), 4, 4] = 1.0
    inhibition = conv(layer.dictionary, layer.dictionary, padding=4) - own
    u = torch.zeros_like(drive)
    for _ in range(layer.iterations):
        codes = (u - layer.threshold).relu()
        u = u + (drive - u - conv(codes, inhibition, padding=4)) / layer.tau
    return codes


@pytest.mark.parametrize("training", [True, False])
def test_sca_is_two_layers_with_dropout_normalisation_and_pooling(batch, training):
    images, labels = batch[0].double(), batch[1]
    defense = DEFENSES["sca"](threshold=0.1, atoms=(4, 6), iterations=12, tau=20.0, dropout=0.3)
    model = small(defense).double().train(training)
    other = deepcopy(model)
    terms = defense.loss(model, images, labels, draws())
    again, maps = draws(), images
    for depth, norm in enumerate(other.front.norms):
        codes = by_hand(other.front.codes[depth], maps)
        assert 0.02 < float((codes > 0).float().mean()) < 0.9
        if training:
            kept = again.uniform(0.0, 1.0, codes, *codes.shape[1:]) >= 0.3
            assert 0.6 < float(kept.float().mean()) < 0.8
            codes = codes * kept / 0.7
        if depth == 1:
            codes = codes.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))
        axes, shape = (0, 2, 3), (1, -1, 1, 1)
        mean = codes.mean(axes) if training else torch.zeros(codes.shape[1]).double()
        spread = codes.var(axes, correction=0) if training else torch.ones(codes.shape[1]).double()
        maps = (codes - mean.view(shape)) / (spread.view(shape) + norm.eps).sqrt()
    expected = nll(other.body(maps), labels).mean()
    assert maps.shape == (8, 6, 16, 16)
    assert torch.allclose(terms.total, expected, rtol=1e-9)


def test_the_defaults_of_sca_are_the_published_architecture():
    front = small(DEFENSES["sca"](**DEFENSES["sca"].presets["reference"])).front
    assert [codes.dictionary.shape for codes in front.codes] == [(16, 1, 5, 5), (32, 16, 5, 5)]
    for codes in front.codes:
        assert (codes.stride, codes.tau, codes.iterations) == (1, 100.0, 500)
        assert torch.allclose(
            codes.dictionary.flatten(1).norm(dim=1), torch.ones(len(codes.dictionary))
        )
        assert not list(codes.parameters())
    assert front.dropout == 0.09


def test_sca_leaves_its_random_dictionaries_as_they_are(faces):
    defense = DEFENSES["sca"](threshold=0.1, atoms=(4, 6), iterations=12, tau=20.0)
    model = small(defense)
    before = deepcopy(model.front.state_dict())
    train(model, faces, defense, TRAINING, seed=1)
    for name, value in model.front.state_dict().items():
        assert torch.equal(value, before[name]) == ("dictionary" in name), name
    with pytest.raises(ValueError, match="sca needs a model that it prepared"):
        defense.loss(small(), faces.images, faces.labels, draws())


def test_the_dictionary_learns_to_show_the_images():
    layer = SparseCoding(
        channels=1, atoms=4, kernel=4, stride=2, threshold=0.2, tau=8.1, iterations=31,
        generator=generator("dictionary"),
    ).train()  # fmt: skip
    images = nn.functional.interpolate(torch.rand(6, 1, 4, 4, generator=generator(1)), size=16)

    def error():
        layer(images)
        inputs, codes = layer.last
        shown = nn.functional.conv_transpose2d(codes, layer.dictionary, stride=2)
        return float((inputs - shown).square().mean())

    before = error()
    for _ in range(20):
        layer(images)
        layer.learn(*layer.change(), 0.1)
    assert error() < 0.8 * before
    assert torch.allclose(layer.dictionary.flatten(1).norm(dim=1), torch.ones(4))


def test_the_dictionary_learns_from_shares_of_a_batch_what_it_learns_from_all_of_it(
    batch, faces, monkeypatch
):
    """Codes of one share have more energy than those of the other: only sums can be averaged."""
    images, labels = batch
    defense = DEFENSES["sparse_standard"](threshold=0.3, tau=13.0, dictionary_rate=1.0)

    def learned(rows, average):
        monkeypatch.setattr(sparse_standard, "mean_over_workers", average)
        model = small(defense).train()
        session = begun(defense, model, faces)
        session.loss(model, images[rows], labels[rows], draws())
        session.after_step()
        return model.front.dictionary

    whole = learned(slice(None), lambda values, draws: None)
    shares = []
    for rank in range(2):
        learned(slice(rank, None, 2), lambda values, draws: shares.append(deepcopy(values)))

    def average(values, draws):
        for value, *each in zip(values, *shares, strict=True):
            value.copy_(torch.stack(each).mean(0))

    assert torch.allclose(learned(slice(0, None, 2), average), whole, atol=1e-5)


def test_sparse_codes_have_the_channels_of_the_images_and_a_stride_that_fits():
    colour = Faces(images=torch.rand(8, 3, 32, 32), labels=torch.arange(8) % 4)

    def trained(**options):
        defense = DEFENSES["sparse_standard"](threshold=0.25, iterations=3, **options)
        model = build_target("small_resnet", num_classes=4, channels=3, seed=5)
        model = defense.prepare(model, public=None, seed=3)
        train(model, colour, defense, TRAINING, seed=1)
        return model.front.dictionary.shape

    assert trained() == (6, 3, 4, 4)
    with pytest.raises(ValueError, match="must divide the sides of the images, got 3 and 32"):
        trained(stride=3)
    with pytest.raises(ValueError, match="sides are multiples of 4, got 2 x 2; choose another"):
        trained(stride=16, kernel=16)
    assert trained(stride=2, kernel=5, tau=28.0, dictionary_rate=0.01) == (6, 3, 5, 5)
