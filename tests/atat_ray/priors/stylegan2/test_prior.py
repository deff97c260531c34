"""StyleGAN2's arithmetic against its formulas, written a second time."""

import math
import os
import resource
import time
from itertools import product

import pytest
import torch
from generators import SMALL, small_generator
from torch.nn.functional import conv2d, leaky_relu

from atat_ray.priors.stylegan2 import StyleGan2Prior
from atat_ray.priors.stylegan2.framing import Settings, frame
from atat_ray.priors.stylegan2.layers import binomial_filter, modulated_conv, upsample
from atat_ray.priors.stylegan2.networks import Generator, Shape
from atat_ray.utils.seeding import generator, seeded

FFHQ = Shape(
    latent_dim=512,
    style_dim=512,
    num_layers=8,
    channels=(512, 512, 512, 512, 512, 256, 128, 64, 32),
)


def prior(shape=SMALL, clamp=None, **settings):
    return StyleGan2Prior(small_generator(shape, clamp), Settings(**settings))


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=generator(seed))


def rounding(images, other):
    return torch.allclose(images, other, atol=1e-5)


def own_weights(weight, style, demodulate):
    """Eq. 1 and 3, output channel by output channel."""
    made = []
    for kernel in weight:
        scaled = kernel * style[:, None, None]
        made.append(scaled / (scaled.square().sum() + 1e-8).sqrt() if demodulate else scaled)
    return made


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_is_the_sum_over_neighbours_with_weights_of_its_own(demodulate):
    features, weight, styles = randn(2, 3, 4, 5), randn(2, 3, 3, 3, seed=2), randn(2, 3, seed=3)
    made = modulated_conv(features, weight, styles, demodulate=demodulate)
    assert made.shape == (2, 2, 4, 5)
    for n in range(2):
        for o, kernel in enumerate(own_weights(weight, styles[n], demodulate)):
            for y in range(4):
                for x in range(5):
                    total = 0.0
                    for a in range(3):
                        for b in range(3):
                            if 0 <= y + a - 1 < 4 and 0 <= x + b - 1 < 5:
                                seen = features[n, :, y + a - 1, x + b - 1]
                                total += float(seen @ kernel[:, a, b])
                    assert abs(float(made[n, o, y, x]) - total) < 1e-5


def test_demodulated_channels_have_unit_variance_for_unit_noise():
    made = modulated_conv(randn(1, 20, 60, 60), randn(4, 20, 3, 3), 7 * randn(1, 20, seed=3))
    assert torch.allclose(made[..., 1:-1, 1:-1].std(dim=(2, 3)), torch.ones(1, 4), atol=0.05)


def spread(values, length, offset, *kernels):
    """Sum values[n] times one entry of each kernel where 2 n + their places = i + offset."""
    made = torch.zeros(length, dtype=torch.float64)
    for n, value in enumerate(values):
        for entries in product(*map(enumerate, kernels)):
            i = 2 * n + sum(place for place, _ in entries) - offset
            if 0 <= i < length:
                made[i] += math.prod([float(value), *(float(entry) for _, entry in entries)])
    return made


TAPS = [value / 4 for value in (1.0, 3.0, 3.0, 1.0)]  # of one axis, twice the mean filter


def test_upsampling_puts_zeros_between_and_filters():
    rows, columns = randn(5), randn(6, seed=2)
    made = upsample(torch.outer(rows, columns)[None, None], binomial_filter())[0, 0]
    expected = torch.outer(spread(rows, 10, 1, TAPS), spread(columns, 12, 1, TAPS))
    assert rounding(made, expected.float())


def test_upsampling_keeps_a_flat_image_flat():
    made = upsample(torch.full((1, 3, 8, 8), 0.7), binomial_filter())
    assert rounding(made[..., 1:-1, 1:-1], torch.full((1, 3, 14, 14), 0.7))


def test_convolution_that_upsamples_is_a_true_convolution_and_the_filter():
    rows, columns, a, b = randn(5), randn(6, seed=2), randn(3, seed=3), randn(3, seed=4)
    features, weight = torch.outer(rows, columns)[None, None], torch.outer(a, b)[None, None]
    made = modulated_conv(
        features, weight, torch.ones(1, 1), demodulate=False, upsampling=binomial_filter()
    )
    expected = torch.outer(spread(rows, 10, 2, a, TAPS), spread(columns, 12, 2, b, TAPS))
    assert rounding(made[0, 0], expected.float())


def image_by_hand(tensors, w, clamp=None):
    """Synthesise one image from w (num_styles, style_dim), layer after layer, in float64."""
    t = {name: tensor.double() for name, tensor in tensors.items()}

    def style(layer, index):
        weight, bias = t[f"{layer}.affine.weight"], t[f"{layer}.affine.bias"]
        return weight @ w[index].double() / math.sqrt(weight.shape[1]) + bias

    def doubled(x, layer, before, after):
        spaced = x.new_zeros(x.shape[0], 2 * x.shape[1], 2 * x.shape[2])
        spaced[:, ::2, ::2] = x
        padded = torch.nn.functional.pad(spaced, (before, after, before, after))
        taps = 4 * t[f"{layer}.resample_filter"].expand(len(x), 1, 4, 4)
        return conv2d(padded[None], taps, groups=len(x))[0]

    def styled(layer, x, index, up):
        kernel = torch.stack(own_weights(t[f"{layer}.weight"], style(layer, index), True))
        if up:  # in the other order than the network does it: first the filter
            x = conv2d(doubled(x, layer, 3, 2)[None], kernel.flip(2, 3))[0]
        else:
            x = conv2d(x[None], kernel, padding=1)[0]
        x = x + t[f"{layer}.noise_const"] * t[f"{layer}.noise_strength"]
        x = leaky_relu(x + t[f"{layer}.bias"][:, None, None], 0.2) * math.sqrt(2)
        return x if clamp is None else x.clamp(-clamp, clamp)

    x, image, index, side = t["synthesis.b4.const"], None, 0, 4
    while f"synthesis.b{side}.torgb.weight" in t:
        block = f"synthesis.b{side}"
        if side > 4:
            x = styled(f"{block}.conv0", x, index, up=True)
            index += 1
        x = styled(f"{block}.conv1", x, index, up=False)
        index += 1
        weight = t[f"{block}.torgb.weight"]
        factors = style(f"{block}.torgb", index) / math.sqrt(len(x))
        rgb = torch.stack(own_weights(weight, factors, False))
        rgb = conv2d(x[None], rgb)[0] + t[f"{block}.torgb.bias"][:, None, None]
        rgb = rgb if clamp is None else rgb.clamp(-clamp, clamp)
        image = rgb if image is None else doubled(image, block, 2, 1) + rgb
        side *= 2
    return image


@pytest.mark.parametrize("clamp", [None, 0.8])
def test_the_network_equals_its_layers_written_out(clamp):
    made = prior(clamp=clamp, psi=0.6, cutoff=3)
    with torch.no_grad():
        (w,) = made.begin(randn(3, SMALL.latent_dim))
        images = made.finish((w,), 0)
    by_hand = [image_by_hand(made.generator.state_dict(), row, clamp) for row in w]
    expected = ((torch.stack(by_hand) + 1) / 2).float()
    assert rounding(images, expected)
    assert torch.equal(made.whole((w,)), images)  # nothing is cropped or resized
    assert float(((images > 0) & (images < 1)).float().mean()) > 0.1
    assert float(images.std(dim=0).mean()) > 0.01


def test_mapping_normalises_z_and_runs_its_layers():
    mapping, z = small_generator().mapping, randn(4, 6)
    w = z / z.square().mean(dim=1, keepdim=True).sqrt()
    for layer in (mapping.fc0, mapping.fc1):
        made = w @ layer.weight.T * (0.01 / math.sqrt(w.shape[1])) + 0.01 * layer.bias
        w = torch.where(made > 0, made, 0.2 * made) * math.sqrt(2)
    assert rounding(mapping(z), w)
    assert rounding(mapping(5 * z), w)


def test_truncation_pulls_the_first_layers_towards_the_mean():
    z = randn(4, 6)
    mapping = small_generator().mapping
    w, mean = mapping(z), mapping.w_avg
    for psi, cutoff in ((0.5, 2), (0.3, 5), (1.5, 1)):
        (state,) = prior(psi=psi, cutoff=cutoff).begin(z)
        assert state.shape == (4, 6, 8)
        assert rounding(
            state[:, :cutoff], (mean + psi * (w - mean))[:, None].expand(-1, cutoff, -1)
        )
        assert torch.equal(state[:, cutoff:], w[:, None].expand(-1, 6 - cutoff, -1))
    for cutoff in (None, 6, 8):
        (state,) = prior(psi=0.5, cutoff=cutoff).begin(z)
        assert state.shape == (4, 1, 8)
        assert rounding(state[:, 0], (mean + w) / 2)
    assert torch.equal(prior(cutoff=2).begin(z)[0][:, 0], w)


@pytest.mark.parametrize("settings", [{}, {"psi": 0.5, "cutoff": 3}, {"batch": 2, "size": 10}])
def test_finishing_a_later_state_gives_the_same_images_bit_for_bit(settings):
    made = prior(**settings)
    state = made.begin(randn(5, 6))
    images = made.finish(state, 0)
    assert torch.equal(made.render(randn(5, 6)), images)
    assert torch.equal(made.synthesize(randn(5, 6)), images.clamp(0, 1))
    for stage in range(made.num_stages):
        state = made.advance(state, stage)
        assert all(len(tensor) == 5 for tensor in state)
        assert [tensor.shape[-1] for tensor in state] == [8, 4 * 2**stage, 4 * 2**stage]
        assert state[1].shape[1] == SMALL.channels[stage]
        assert torch.equal(made.finish(state, stage + 1), images)
    assert made.num_stages == 3


def test_gradient_reaches_every_part_of_a_state():
    made = prior()
    state = made.begin(randn(3, 6))
    for stage in range(made.num_stages):
        state = tuple(tensor.detach().requires_grad_() for tensor in state)
        images = made.finish(state, stage)
        gradients = torch.autograd.grad((images * randn(*images.shape)).sum(), state)
        assert all(bool((gradient != 0).any()) for gradient in gradients)
        state = made.advance(state, stage)


def test_batches_change_neither_images_nor_gradients():
    latents = randn(5, 6).requires_grad_()
    results = []
    for batch in (1, 2, 8):
        images = prior(batch=batch).synthesize(latents)
        results.append((images, *torch.autograd.grad(images.square().sum(), latents)))
    for images, gradient in results[:2]:
        assert rounding(images, results[2][0])
        assert torch.allclose(gradient, results[2][1], rtol=1e-3, atol=1e-4)


def test_memory_holds_the_activations_of_one_batch():
    """Count the bytes that the graph saves for the backward pass."""
    kept = {}
    for batch in (2, 64):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor,
            lambda tensor: tensor,
        ):
            prior(batch=batch).synthesize(randn(32, 6).requires_grad_())
        kept[batch] = sum(sizes)
    assert kept[2] < kept[64] / 10


@pytest.mark.parametrize("stage", [-1, 3, 4])
def test_a_stage_out_of_range_is_refused(stage):
    made = prior()
    with pytest.raises(ValueError, match=f"stage must be in 0..2, got {stage}"):
        made.advance(made.begin(randn(1, 6)), stage)


def test_noise_is_the_same_every_time_and_can_be_left_out():
    latents, state = randn(2, 6), torch.get_rng_state()
    first, second = prior().synthesize(latents), prior().synthesize(latents)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(prior(noise=False).synthesize(latents), first)


def test_no_parameter_of_a_generator_requires_gradients():
    made = prior()
    assert not any(tensor.requires_grad for tensor in made.parameters())


def test_framing_crops_the_middle_resizes_and_scales():
    images = randn(2, 3, 16, 16)
    plain = frame(images, Settings())
    assert torch.equal(plain, (images + 1) / 2)
    assert torch.equal(frame(images, Settings(crop=10)), plain[..., 3:13, 3:13])
    small = frame(images / 9, Settings(size=4))
    flat = frame(torch.full((1, 3, 16, 16), 0.4), Settings(size=4, crop=12))
    assert small.shape == (2, 3, 4, 4)
    assert rounding(flat, torch.full((1, 3, 4, 4), 0.7))
    # Antialiased: the sum over pixels of an image that is shrunk stays in proportion.
    spot = torch.full((1, 1, 16, 16), -1.0)
    spot[..., 7, 7] = 1.0
    assert abs(float(frame(spot, Settings(size=4)).sum()) - 1 / 16) < 0.01
    gray = frame(images, Settings(gray=True))
    luma = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    assert rounding(gray, (luma + 1) / 2)


def test_whole_images_are_not_cropped_resized_or_made_gray():
    made, plain = prior(crop=8, size=4, gray=True, batch=2), prior()
    state = plain.begin(randn(5, 6))
    assert made.finish(state, 0).shape == (5, 1, 4, 4)
    assert rounding(made.whole(state), plain.finish(state, 0))
    assert made.whole(state).shape == (5, 3, 16, 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"psi": 0.0}, "psi must be above 0, got 0.0"),
        ({"psi": float("nan")}, "psi must be above 0, got nan"),
        ({"cutoff": 0}, "cutoff must be 1 or more, got 0"),
        ({"size": 0}, "size must be 1 or more, got 0"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
        ({"crop": 17}, "crop must be at most 16, the side of the generator's images, got 17"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        prior(**settings)


def styled_names(layer):
    ends = ["weight", "bias", "noise_strength", "noise_const", "resample_filter"]
    return {f"{layer}.{end}" for end in [*ends, "affine.weight", "affine.bias"]}


def test_names_and_shapes_are_those_of_the_public_checkpoint_of_ffhq():
    with torch.device("meta"):
        state = Generator(FFHQ).state_dict()
    names = {"mapping.w_avg", "synthesis.b4.const"} | styled_names("synthesis.b4.conv1")
    names |= {f"mapping.fc{i}.{end}" for i in range(8) for end in ("weight", "bias")}
    for side in (4, 8, 16, 32, 64, 128, 256, 512, 1024):
        block = f"synthesis.b{side}"
        names |= {f"{block}.resample_filter"} | styled_names(f"{block}.conv1")
        names |= {f"{block}.torgb.{end}" for end in
                  ("weight", "bias", "affine.weight", "affine.bias")}  # fmt: skip
        if side > 4:
            names |= styled_names(f"{block}.conv0")
    assert set(state) == names
    shapes = {
        "mapping.fc0.weight": (512, 512),
        "mapping.fc7.bias": (512,),
        "mapping.w_avg": (512,),
        "synthesis.b4.const": (512, 4, 4),
        "synthesis.b4.conv1.affine.weight": (512, 512),
        "synthesis.b4.torgb.weight": (3, 512, 1, 1),
        "synthesis.b8.conv0.noise_const": (8, 8),
        "synthesis.b8.conv0.noise_strength": (),
        "synthesis.b8.resample_filter": (4, 4),
        "synthesis.b128.conv0.weight": (256, 512, 3, 3),
        "synthesis.b128.conv0.affine.weight": (512, 512),
        "synthesis.b256.conv1.affine.bias": (128,),
        "synthesis.b512.conv0.weight": (64, 128, 3, 3),
        "synthesis.b1024.conv1.weight": (32, 32, 3, 3),
        "synthesis.b1024.torgb.affine.weight": (32, 512),
        "synthesis.b1024.conv1.noise_const": (1024, 1024),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert FFHQ.resolution == 1024
    assert FFHQ.num_styles == 18
    with torch.device("meta"):  # as NVIDIA's training prints it for this network
        assert sum(p.numel() for p in Generator(FFHQ).parameters()) == 30_370_060


@pytest.mark.slow
def test_a_network_of_ffhq_shape_synthesises_an_image_in_under_a_minute(capsys):
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    start = time.perf_counter()
    with seeded(0):
        network = Generator(FFHQ)
    built = time.perf_counter()
    made = StyleGan2Prior(network, Settings(psi=0.5, cutoff=8, crop=800, size=224))
    with torch.no_grad():
        images = made.synthesize(made.sample_latents(1, generator(1)))
    seconds = time.perf_counter() - start
    torch.set_num_threads(1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"\nbuilt in {built - start:.2f} s, image after {seconds:.2f} s, peak {peak:.2f} GiB")
    assert images.shape == (1, 3, 224, 224)
    assert images.isfinite().all()
    assert seconds < 60
