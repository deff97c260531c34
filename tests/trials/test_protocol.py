"""A protocol as data: its one hash, what it specifies, and what it does not let pass."""

import hashlib
import json
from copy import deepcopy

import pytest
import yaml

from trials.protocol import Protocol, expand_levels
from trials.reading import SHIPPED, check_protocol, read_protocol, shipped_protocols

LEAVES = {
    "seed": 8,
    "question": "Does it walk?",
    "units_per_arm": 2,
    "design": "pairs",
    "nonce": "secret",
    "outcome": "standard/lda_att_acc_1",
    "alpha": 0.1,
    "retries": 0,
    "workers": 2,
    "blocks.split-0.split": 5,
    "blocks.split-0.node": "big",
    "arms.treatment.weight": 2.5,
    "arms.treatment.epsilon": 0.02,
    "arms.treatment.random_start": False,
    "data.num_private": 7,
    "training.warmup": 0.2,
    "training.augmentation.rotation": 6,
    "training.augmentation.scale": [0.9, 1.2],
    "evaluation.ensemble": 2,
    "inversions.standard.prior.num_components": 21,
    "inversions.standard.ppa.betas": [0.1, 0.2],
    "robustness.epsilons": [0.01, 0.02],
}


def changed(content, path, value):
    *parents, last = path.split(".")
    content = deepcopy(content)
    node = content
    for key in parents:
        node = node[key]
    node[last] = value
    return content


def backwards(value):
    """The same mapping with its keys in the other order."""
    if isinstance(value, dict):
        return {key: backwards(item) for key, item in reversed(value.items())}
    return value


@pytest.mark.parametrize("name", sorted(shipped_protocols()))
def test_a_shipped_protocol_reads_and_is_named_as_its_file(name):
    protocol = read_protocol(name)
    assert protocol.name == name
    assert "primary" in protocol.contrasts
    assert read_protocol(str(SHIPPED / f"{name}.yaml")) == protocol


def test_the_hash_is_that_of_sorted_json_without_spaces(tiny_protocol):
    protocol = tiny_protocol(question="Läuft es?")
    text = json.dumps(
        protocol.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert protocol.sha256() == hashlib.sha256(text.encode("utf-8")).hexdigest()


def test_the_hash_does_not_depend_on_the_order_of_keys(content):
    once, again = Protocol.model_validate(content), Protocol.model_validate(backwards(content))
    assert once.sha256() == again.sha256()


def test_the_hash_does_not_depend_on_how_yaml_is_written(content, tmp_path):
    hashes = set()
    for flow in (True, False):
        path = tmp_path / f"{flow}.yaml"
        path.write_text(f"# a comment\n{yaml.safe_dump(content, default_flow_style=flow)}")
        hashes.add(read_protocol(str(path)).sha256())
    assert hashes == {Protocol.model_validate(content).sha256()}


def test_the_hash_does_not_depend_on_whether_a_default_is_written(content):
    implied = Protocol.model_validate(content)
    written = Protocol.model_validate(content | {"workers": 1, "retries": 2, "design": "blocked"})
    assert written.sha256() == implied.sha256()


@pytest.mark.parametrize("path", LEAVES)
def test_the_hash_depends_on_every_value(content, path):
    once = Protocol.model_validate(content)
    again = Protocol.model_validate(changed(content, path, LEAVES[path]))
    assert once.sha256() != again.sha256()


def test_the_canonical_form_reads_back_as_the_same_protocol(tiny_protocol):
    protocol = tiny_protocol(units_per_arm={"control": 1, "treatment": 3})
    assert Protocol.model_validate(protocol.canonical()) == protocol


def test_a_protocol_does_not_change(tiny_protocol):
    with pytest.raises(ValueError, match="frozen"):
        tiny_protocol().seed = 8


def test_a_block_may_have_its_own_data(content, tiny_protocol):
    data = {**content["data"], "num_private": 8}
    protocol = tiny_protocol(blocks={"plain": {"split": 0}, "other": {"split": 1, "data": data}})
    plain, other = protocol.block_spec("plain"), protocol.block_spec("other")
    assert (plain.split, plain.data.num_private) == (0, 6)
    assert (other.split, other.data.num_private) == (1, 8)


def test_levels_stand_for_one_arm_each():
    arms = {
        "control": {"defense": "none"},
        "dose": {
            "defense": "decoy_noise",
            "weight": {"levels": [1, 2]},
            "epsilon": {"levels": [0.1, 0.2]},
        },
    }
    assert expand_levels(arms) == {
        "control": {"defense": "none"},
        "dose-weight-1-epsilon-0.1": {"defense": "decoy_noise", "weight": 1, "epsilon": 0.1},
        "dose-weight-1-epsilon-0.2": {"defense": "decoy_noise", "weight": 1, "epsilon": 0.2},
        "dose-weight-2-epsilon-0.1": {"defense": "decoy_noise", "weight": 2, "epsilon": 0.1},
        "dose-weight-2-epsilon-0.2": {"defense": "decoy_noise", "weight": 2, "epsilon": 0.2},
    }


@pytest.mark.parametrize("option", ["weight", "epsilon", "random_start"])
def test_every_option_of_a_defense_can_have_levels(content, option):
    levels = {"weight": [1, 2.5], "epsilon": [1e-05, 0.01], "random_start": [False, True]}[option]
    content["arms"]["dose"] = {**content["arms"]["treatment"], option: {"levels": levels}}
    protocol = check_protocol(content, "tiny.yaml")
    given = [getattr(arm, option) for name, arm in protocol.arms.items() if name.startswith("dose")]
    assert given == levels


@pytest.mark.parametrize("levels", [[], [1, 1]], ids=["none", "twice the same"])
def test_levels_that_are_no_arms_are_refused(content, levels):
    """Or an arm that somebody wrote down would be missing from the trial."""
    dose = {"defense": "decoy_noise", "weight": {"levels": levels}, "epsilon": 0.01}
    content["arms"]["dose"] = dose
    with pytest.raises(ValueError, match="dose.*levels"):
        check_protocol(content, "tiny.yaml")
