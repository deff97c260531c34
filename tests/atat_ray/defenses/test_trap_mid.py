"""Trap-MID's steps, written a second time."""

from copy import deepcopy

import pytest
import torch
from small import begun, draws, nll, small
from torch.nn.functional import softplus

from atat_ray.defenses import DEFENSES
from atat_ray.defenses.trap_mid import TrapMid, blend, vary
from atat_ray.utils.seeding import generator


def begun_with(faces, **options):
    """A network that tells classes apart, and a session with a discriminator that has learned."""
    model = small().train()
    with torch.no_grad():
        model.head.weight *= 30
    session = begun(TrapMid(weight=0.2, blend=0.1, **options), model, faces)
    for turn in range(5):
        classes = draws(turn).integers(0, 4, faces.labels[:8])
        session.step_discriminator(faces.images[:8], classes, draws(turn))
    return model, session


@pytest.mark.parametrize("blend_range", ["pixels", "normalized"])
def test_triggers_step_against_both_networks_in_evaluation_mode(batch, faces, blend_range):
    images, labels = batch
    model, session = begun_with(faces, blend_range=blend_range)
    before = session.triggers.clone()
    states = [deepcopy(net.state_dict()) for net in (model, session.discriminator)]

    def gradient(training):
        network, judge = deepcopy(model).eval(), deepcopy(session.discriminator).train(training)
        triggers = before.clone().requires_grad_()
        if blend_range == "pixels":
            trapped = 0.9 * images + 0.1 * triggers[labels]
        else:
            trapped = ((0.9 * (2 * images - 1) + 0.1 * triggers[labels]) + 1) / 2
        hidden = softplus(-judge(trapped)).mean()  # -log sigmoid
        loss = hidden + nll(network(vary(trapped, draws(3))), labels).mean()
        return torch.autograd.grad(loss, triggers)[0]

    session.step_triggers(model, images, labels, draws(3))
    expected = (before - 0.01 * gradient(training=False).sign()).clamp(0, 1)
    assert float((session.triggers - expected).abs().gt(1e-6).float().mean()) < 1e-3
    wrong = (before - 0.01 * gradient(training=True).sign()).clamp(0, 1)
    assert float((session.triggers - wrong).abs().gt(1e-6).float().mean()) > 0.05
    for net, state in zip((model, session.discriminator), states, strict=True):
        assert net.training
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_the_reference_preset_blends_in_the_range_of_normalised_images():
    images, triggers = torch.rand(2, 4, 1, 8, 8, generator=generator("blend"))
    normalised = 0.98 * (2 * images - 1) + 0.02 * triggers
    options = TrapMid(**TrapMid.presets["reference"])
    found = blend(images, triggers, options.blend, options.blend_range)
    assert torch.allclose(2 * found - 1, normalised, atol=1e-6)
    assert torch.allclose(blend(images, triggers, 0.02), 0.98 * images + 0.02 * triggers)
    with pytest.raises(ValueError, match=r"unknown blend_range 'pixel' \(did you mean 'pixels'"):
        DEFENSES["trap_mid"](weight=0.2, blend_range="pixel")
