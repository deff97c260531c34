"""The estimate of an attack's memory, and that the presets for StyleGAN2 fit a GPU of 24 GB."""

import pytest
import torch
from generators import small_generator
from torch import nn

from atat_ray.inversion import ATTACKS
from atat_ray.inversion.cost_estimate import estimate_bytes, saved_bytes
from atat_ray.inversion.interface import count_bytes
from atat_ray.inversion.losses import LOSSES
from atat_ray.inversion.random_crops import random_resized_crop
from atat_ray.models import build_target
from atat_ray.priors.stylegan2 import StyleGan2Prior
from atat_ray.priors.stylegan2.framing import Settings
from atat_ray.priors.stylegan2.networks import Generator
from atat_ray.priors.stylegan2.random_generator import FFHQ
from atat_ray.utils.seeding import BatchDraws, generator
from trials.config.load import read_protocol, read_sweep

GPU_BYTES = 24e9
# CUDA's context, workspaces of cuDNN, and gradients that a backward pass holds for a moment.
RESERVE = 5e9


@pytest.fixture(scope="module")
def at_scale():
    """ResNet-152 for 530 people and a generator of FFHQ's shape: sizes without content."""
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.init, "kaiming_normal_", lambda tensor, *_, **__: tensor)
        target = build_target("resnet152", num_classes=530, channels=3, seed=0).eval()
    options = read_protocol("facescrub-rct").inversions["standard"].prior
    return target, StyleGan2Prior(Generator(FFHQ).to("meta"), options.settings(size=224))


def needed(target, prior, attack, num_classes=530):
    networks = sum(count_bytes(net.parameters()) for net in (target, prior))
    return networks + estimate_bytes(target, prior, num_classes, attack)


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_a_paper_preset_fits_a_gpu_of_24_gb_by_itself(at_scale, name):
    attack = ATTACKS[name].from_preset("paper")
    assert needed(*at_scale, attack) < GPU_BYTES - RESERVE


def test_the_stage_images_of_all_people_are_counted(at_scale):
    """Four stages of 50 images of 530 people, in float32 at 224 pixels, are 64 GB."""
    attack = ATTACKS["if_gmi"].from_preset("paper", batch_classes=None)
    assert needed(*at_scale, attack) > 4 * 50 * 530 * 3 * 224**2 * 4 > 63e9


def test_the_shipped_attacks_at_scale_hold_no_more_than_the_paper_preset():
    preset = ATTACKS["ppa"].from_preset("paper")
    shipped = [read_protocol(n) for n in ("facescrub-rct", "facescrub-benchmark", "celeba-rct")]
    for settings in [*shipped, read_sweep("lambda-epsilon-sweep")]:
        inversion = settings.inversions["standard"]
        assert inversion.prior.batch == 8
        assert inversion.attack.candidates <= preset.candidates
        assert inversion.attack.keep <= preset.keep
        for name in ("batch", "batch_classes"):
            assert getattr(inversion.attack, name) == getattr(preset, name)


SMALL = {"samples": 8, "candidates": 6, "keep": 2, "latent_limit": None}


def small(batch=8):
    target = nn.Sequential(nn.Flatten(), nn.Linear(768, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
    return target, StyleGan2Prior(small_generator(), Settings(batch=batch))


def step_bytes(target, prior, attack, rows):
    """Measure a whole step of several candidates at once."""
    latents = prior.sample_latents(rows, generator(1)).requires_grad_()

    def step():
        views = random_resized_crop(
            attack.searched(prior.render(latents)), BatchDraws(generator(2)), area=attack.crop_area
        )
        LOSSES[attack.loss](target(views), torch.zeros(rows, dtype=torch.long)).sum()

    return saved_bytes(step, target, prior)


def test_the_estimate_is_what_a_step_of_a_batch_saves_and_what_is_held():
    target, prior = small()
    attack = ATTACKS["ppa"].from_preset("quick", **SMALL, batch=5)
    held = 3 * 6 * 3 * 16 * 16 * 4  # images of six candidates of three classes
    measured = step_bytes(target, prior, attack, 5)
    assert estimate_bytes(target, prior, 3, attack) == pytest.approx(measured + held, rel=0.05)
    # A network on the device "meta" has the same sizes.
    meta = estimate_bytes(target.to("meta"), prior.to("meta"), 3, attack)
    assert meta == pytest.approx(measured + held, rel=0.05)


def test_a_prior_that_renders_few_rows_at_once_holds_the_intermediate_results_of_these():
    attack = ATTACKS["ppa"].from_preset("quick", **SMALL)
    by_rows = {rows: estimate_bytes(*small(rows), 3, attack) for rows in (1, 2, 18, 40)}
    assert by_rows[18] == by_rows[40]  # 18 candidates in all
    one_row = by_rows[2] - by_rows[1]
    assert one_row > 0
    assert by_rows[18] - by_rows[1] == pytest.approx(17 * one_row)


def test_weights_are_not_counted_as_saved():
    layer, rows = nn.Linear(100, 2), torch.ones(1, 100, requires_grad=True)
    assert saved_bytes(lambda: layer(rows)) > saved_bytes(lambda: layer(rows), layer)
    assert saved_bytes(lambda: layer(rows), layer) == 400


def test_states_of_if_gmi_and_the_tuned_prior_of_ppdg_are_held():
    _, prior = small()
    options = {**SMALL, "steps": (1, 1, 1), "radii": None, "feature_radii": None}
    if_gmi = ATTACKS["if_gmi"].from_preset("quick", **options)
    states = [prior.begin(prior.sample_latents(1, generator(1)))]
    for stage in range(2):
        states.append(prior.advance(states[-1], stage))
    largest = max(count_bytes(state) for state in states)
    assert if_gmi.held_bytes(prior, 2, 10) == 2 * (6 * (10 + 2 * largest) + 2 * 3 * 2 * 10)
    ppdg = ATTACKS["ppdg"].from_preset("quick", **SMALL, pseudo_private=1)
    assert ppdg.held_bytes(prior, 2, 10) == 2 * 6 * 10 + 4 * count_bytes(prior.weights())
