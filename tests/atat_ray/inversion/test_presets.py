"""The numbers of the presets, as docs/attacks.md gives them."""

from pathlib import Path

import pytest
import torch
import yaml
from generators import small_generator

from atat_ray.inversion import ATTACKS
from atat_ray.inversion.if_gmi import IfGmi
from atat_ray.priors.stylegan2 import StyleGan2Prior
from atat_ray.priors.stylegan2.framing import Settings
from trials.config.load import check_protocol, read_protocol

DOCS = Path(__file__).parents[3] / "docs" / "attacks.md"


def table():
    """Read the table of the paper presets: options by attack and name."""
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in DOCS.read_text().splitlines()
        if line.startswith("| `") or line.startswith("| option")
    ]
    start = next(i for i, row in enumerate(rows) if row[0] == "option")
    attacks = rows[start][1:]
    return [
        (attack, row[0], yaml.safe_load(cell))
        for row in rows[start + 1 :]
        for attack, cell in zip(attacks, row[1:], strict=True)
        if cell
    ]


def test_the_docs_give_the_numbers_of_the_paper_presets():
    rows = table()
    assert len(rows) > 20
    assert {attack for attack, _, _ in rows} == set(ATTACKS)
    for attack, option, value in rows:
        found = getattr(ATTACKS[attack].from_preset("paper"), option)
        assert (list(found) if isinstance(found, tuple) else found) == value, (attack, option)


def test_the_paper_preset_of_ppa_is_the_attack_of_the_shipped_trial_at_scale():
    attack = read_protocol("facescrub-rct").inversions["standard"].attack
    assert attack == ATTACKS["ppa"].from_preset("paper")


def test_balls_can_be_switched_off():
    made = StyleGan2Prior(small_generator(), Settings())
    options = {"steps": (1, 1), "latent_limit": None}
    off = IfGmi.from_preset("quick", **options, radii=None, feature_radii=None)
    start = (torch.ones(2, 1, 8), torch.ones(2, 4, 3, 3))
    for number, state in enumerate([start[:1], start]):
        moved = tuple(tensor + 1e4 for tensor in state)
        off.ball(number)(moved, state)
        assert all(bool((tensor == 1e4 + 1).all()) for tensor in moved)
    only_styles = IfGmi.from_preset("quick", **options, radii=(1.0, 1.0), feature_radii=None)
    moved = tuple(tensor + 1e4 for tensor in start)
    only_styles.ball(1)(moved, start)
    assert moved[0].max() < 10
    assert (moved[1] == 1e4 + 1).all()
    assert only_styles.check_prior(made) is made


@pytest.mark.parametrize("radii", [None, [4.0, 0.5, 0.5]])
def test_a_protocol_can_switch_the_balls_off(content, radii):
    inversion = content["inversions"]["standard"]
    inversion["prior"] = {"name": "warped"}
    del inversion["ppa"]
    inversion["if_gmi"] = {"preset": "quick", "radii": radii, "feature_radii": None}
    protocol = check_protocol(content, "file.yaml")
    attack = protocol.inversions["standard"].attack
    assert attack.radii == (None if radii is None else tuple(radii))
    assert attack.feature_radii is None
    again = check_protocol(protocol.canonical(), "file.yaml")
    assert again.sha256() == protocol.sha256()
