"""Protocols: canonical form and hash, specified units, refused mistakes."""

import hashlib
import json
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import schema
from analysis.inference.group_sequential import planned_looks
from analysis.pipeline.primary import analyse
from analysis.record.reader import Record
from analysis.secondary import analyse_secondary
from atat_ray.inversion import ATTACKS
from trials.allocation import draw
from trials.config.load import SHIPPED, check_protocol, read_protocol, shipped
from trials.config.protocol import Protocol, expand_levels
from trials.config.settings import canonical_json

LEAVES = {
    "seed": 8,
    "question": "Does it work?",
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


def reversed_keys(value):
    """Return the same mapping with its keys in reverse order, at every depth."""
    if isinstance(value, dict):
        return {key: reversed_keys(item) for key, item in reversed(value.items())}
    return value


@pytest.mark.parametrize("name", sorted(shipped(SHIPPED)))
def test_a_shipped_protocol_is_valid_and_has_the_name_of_its_file(name):
    protocol = read_protocol(name)
    assert protocol.name == name
    assert "primary" in protocol.contrasts
    assert read_protocol(str(shipped(SHIPPED)[name])) == protocol


def test_the_hash_is_that_of_sorted_json_without_spaces(tiny_protocol):
    protocol = tiny_protocol(question="Läuft es?")
    text = json.dumps(
        protocol.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert protocol.sha256() == hashlib.sha256(text.encode("utf-8")).hexdigest()


def test_the_hash_does_not_depend_on_the_order_of_keys(content):
    once, again = Protocol.model_validate(content), Protocol.model_validate(reversed_keys(content))
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


def test_a_protocol_is_immutable(tiny_protocol):
    with pytest.raises(ValueError, match="frozen"):
        tiny_protocol().seed = 8


def test_a_block_may_have_its_own_data(content, tiny_protocol):
    data = {**content["data"], "num_private": 8}
    protocol = tiny_protocol(blocks={"plain": {"split": 0}, "other": {"split": 1, "data": data}})
    plain, other = protocol.block_spec("plain"), protocol.block_spec("other")
    assert (plain.split, plain.data.num_private) == (0, 6)
    assert (other.split, other.data.num_private) == (1, 8)


def test_levels_expand_to_one_arm_per_combination():
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


def test_an_arm_does_not_replace_one_generated_from_levels():
    other = {"defense": "label_smoothing", "smoothing": 0.5}
    arms = {"s": {**other, "smoothing": {"levels": [0.1, 0.2]}}, "s-smoothing-0.1": other}
    with pytest.raises(ValueError, match="two arms are named s-smoothing-0.1, .*; rename one"):
        expand_levels(arms)
    with pytest.raises(ValueError, match="s: smoothing with levels takes no other key, got levels"):
        expand_levels({"s": {**other, "smoothing": {"levels": [0.1], "low": 2}}})


@pytest.mark.parametrize("levels", [[], [1, 1]], ids=["none", "twice the same"])
def test_missing_or_repeated_levels_are_refused(content, levels):
    """They would remove an arm from the trial without a message."""
    dose = {"defense": "decoy_noise", "weight": {"levels": levels}, "epsilon": 0.01}
    content["arms"]["dose"] = dose
    with pytest.raises(ValueError, match="dose.*levels"):
        check_protocol(content, "tiny.yaml")


DECLARED = {
    "margins": {"clean_acc": 0.02, "robust_acc/0.01": 0.05},
    "doses": {"control": 0.0, "weak": 1.0, "treatment": 2.0},
    "looks": {"blocks": [1, 2], "spending": "pocock"},
    "matching": {"arm": "treatment", "line": ["weak", "control"]},
    "families": {"decoys": ["treatment", "weak"]},
    "claims": {
        "first": {
            "sentence": "It leaks less.",
            "paper": "It does.",
            "where": "Table 1",
            "estimand": {
                "contrast": {"contrast": "primary", "outcome": "clean_acc"},
                "matched": None,
                "ratio": None,
                "slope": None,
            },
            "direction": "below",
            "margin": -0.05,
            "truths": None,
            "spread": None,
            "correlation": 0.0,
        }
    },
    "bounds": {
        "noise_scales": [0.1, 1.0],
        "layer": "outputs",
        "images": 2,
        "pixels": 3,
        "power_steps": 9,
        "probes": 8,
    },
}


@pytest.fixture
def with_weak(content):
    """Return a protocol of three arms whose looks can stop it."""
    content["arms"]["weak"] = {"defense": "decoy_noise", "weight": 1.0, "epsilon": 0.01}
    return content | {"units_per_arm": 5}


@pytest.mark.parametrize("key", DECLARED)
def test_the_canonical_form_contains_exactly_the_declared_optional_keys(with_weak, key):
    without = Protocol.model_validate(with_weak)
    declared = check_protocol({**with_weak, key: DECLARED[key]}, "tiny.yaml")
    assert set(declared.canonical()) - set(without.canonical()) == {key}
    assert declared.canonical()[key] == DECLARED[key]
    assert declared.sha256() != without.sha256()
    assert Protocol.model_validate(declared.canonical()) == declared


def test_the_shipped_trials_have_the_hashes_of_their_published_results():
    """The hash enters the allocation: another hash would give arms to other units."""
    assert read_protocol("orl-rct").sha256().startswith("32c59c2d5680bb80")
    assert read_protocol("orl-aa").sha256().startswith("567d400178e599d7")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            {"margins": {"clean_ac": 0.02}},
            r"accuracy in margins 'clean_ac' \(did you mean 'clean_acc'\?\); known: clean_acc, rob",
        ),
        ({"margins": {"clean_acc": 2}}, "margins.clean_acc: input should be less than 1, got 2"),
        ({"doses": {"control": 0, "wek": 1}}, r"arm in doses 'wek' \(did you mean 'weak'\?\); kno"),
        ({"doses": {"control": 0, "weak": 1}}, "at least 3 different doses, got control: 0, weak"),
        ({"matching": {"arm": "weak", "line": ["contrl"]}}, "matching 'contrl' .*mean 'control'"),
        (
            {"matching": {"arm": "weak", "line": ["weak"]}},
            "matching.line must not contain matching.arm, got 'weak' in both",
        ),
        (
            {"matching": {"arm": "weak", "lines": ["weak"]}},
            "key 'lines' .*mean 'line'.*: arm, line",
        ),
        ({"families": {"a": ["weak"], "b": ["weak"]}}, "'weak' is in a and b"),
        ({"families": {"a": ["none"]}}, "arm in families 'none'.*known: control, treatment, weak"),
        ({"bounds": {"layer": "outputs"}}, "bounds.noise_scales is missing"),
        (
            {"bounds": {"noise_scale": [1]}},
            r"key 'bounds.noise_scale' \(did you mean 'bounds.noise_",
        ),
        ({"bounds": {"noise_scales": [0]}}, "bounds: noise_scales must be different numbers"),
        ({"looks": {"blocks": [1], "spending": "pocock"}}, "end with all 2 blocks, got .1."),
        ({"looks": {"blocks": [1, 2], "spending": "often"}}, "looks.spending: .*'pocock'.*'often'"),
        (
            {"looks": {"blocks": [1, 2], "spending": "pocock"}, "units_per_arm": 2},
            "the look after 1 block can never stop: it needs p <= 0.031, but 1 block of 2 . 2",
        ),
    ],
)
def test_an_invalid_declaration_is_refused_in_one_line(with_weak, declared, message):
    with pytest.raises(ValueError, match=message) as refused:
        check_protocol(with_weak | declared, "tiny.yaml")
    assert "\n" not in str(refused.value)


def test_declared_bounds_reach_every_unit(with_weak):
    protocol = check_protocol(with_weak | {"bounds": DECLARED["bounds"]}, "tiny.yaml")
    for arm in protocol.arms:
        spec = protocol.unit_spec("split-0-01", "split-0", arm)
        assert spec.bounds is not None
        assert spec.bounds.noise_scales == (0.1, 1.0)
    plain = Protocol.model_validate(with_weak).unit_spec("split-0-01", "split-0", "weak")
    assert plain.bounds is None


def test_declarations_reach_the_analysis(with_weak):
    """The analysis reads only the canonical JSON of a protocol."""
    protocol = Protocol.model_validate(with_weak | DECLARED)
    units = pd.DataFrame(draw(protocol, "7")).rename(columns={"stratum": "block"})
    numbers = np.random.default_rng(0)
    for column in ("standard/att_acc_1", "clean_acc", "robust_acc/0.01"):
        units[column] = numbers.random(len(units))
    units = units.assign(status="finished", node="a", start_order=range(len(units)), reason="")
    record = Record(
        campaign=protocol.name,
        protocol=json.loads(canonical_json(protocol.canonical())),
        allocation=units[["unit_id", "block", "arm"]],
        units=units,
        classes=pd.DataFrame(columns=["unit_id", "block", "arm", *schema.CLASS_COLUMNS]),
        assets=[],
        tags={},
        read_artifact=lambda unit_id, path: b"",
    )
    results = analyse(record)
    found = analyse_secondary(record, results)
    assert [look.blocks for look in results.looks] == [1, 2]
    assert {m.difference.outcome: m.margin for m in found["margins"]} == pytest.approx(
        {"clean_acc": 2.0, "robust_acc/0.01": 5.0}
    )
    assert found["dose_response"].doses == DECLARED["doses"]
    assert (found["matched_accuracy"].arm, found["matched_accuracy"].line) == (
        "treatment",
        ("weak", "control"),
    )
    assert list(found["families"]) == ["decoys"]
    assert (
        found["claims"]["first"].found.what == "clean accuracy of treatment minus that of control"
    )


@pytest.mark.parametrize(
    ("changes", "smallest"),
    [
        ({"units_per_arm": {"control": 3, "treatment": 9, "weak": 1}}, 1 / 220**2),
        ({"design": "pairs", "units_per_arm": 5}, 2 / 2**10),
    ],
    ids=["unequal", "pairs"],
)
def test_the_smallest_p_of_a_look_follows_the_design(with_weak, changes, smallest):
    """Looks count matched sets with ``design: pairs``; unequal arms cannot be exchanged."""
    last = 10 if changes.get("design") == "pairs" else 2
    looks = {"blocks": [last // 2 + 3 * (last == 10), last], "spending": "pocock"}
    protocol = Protocol.model_validate(with_weak | changes | {"looks": looks})
    assert planned_looks(protocol.canonical())[-1].smallest_p == pytest.approx(smallest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "bfloat16"}, "would change what AntiAdversarial does; use float32"),
        ({"weights": "imagenet"}, "no ImageNet weights of small_resnet; set weights: none"),
        ({"auxiliary_weight": 0.4}, "small_resnet has no auxiliary head"),
    ],
)
def test_a_training_that_does_not_fit_network_or_arms_is_refused(content, changes, message):
    content["training"] = {**content["training"], **changes}
    with pytest.raises(ValueError, match=message):
        Protocol.model_validate(content)


def test_networks_of_torchvision_with_imagenet_weights_are_valid(content):
    content["architecture"] = "resnet152"
    content["training"] = {**content["training"], "weights": "imagenet"}
    content["evaluation"] = {
        "ensemble": 1,
        "architecture": "inception_v3",
        "training": {**content["training"], "auxiliary_weight": 0.4, "precision": "bfloat16"},
    }
    protocol = Protocol.model_validate(content)
    assert Protocol.model_validate(protocol.canonical()) == protocol
    assert protocol.canonical()["training"]["weights"] == "imagenet"


@pytest.mark.parametrize(
    "robustness",
    [{"attacks": "apgd-ce", "epsilons": [0.01]}, {"attacks": "standard", "epsilons": []}],
    ids=["no DLR loss", "no epsilon"],
)
def test_two_people_are_enough_without_a_dlr_loss(content, robustness):
    content["data"]["num_private"] = 2
    assert Protocol.model_validate(content | {"robustness": robustness}).data.num_private == 2


OF_TAGS = [
    "LOOK_PREFIX",
    "CLAIM_PREFIX",
]  # prefixes of tags; all other prefixes of the schema are of columns


@pytest.mark.parametrize(
    "prefix", [name for name in vars(schema) if name.endswith("_PREFIX") and name not in OF_TAGS]
)
def test_an_inversion_named_like_a_column_prefix_is_refused(content, prefix):
    """Its outcomes would be dropped as curves, or read as robust accuracies."""
    name = getattr(schema, prefix).rstrip("/")
    content["inversions"][name] = content["inversions"]["standard"]
    with pytest.raises(ValueError, match=f"an inversion may not be named '{name}'"):
        Protocol.model_validate(content)


def test_each_inversion_attack_reads_a_preset_and_is_the_only_attack_written(tiny_protocol):
    warped = {"name": "warped"}
    for name, kind in ATTACKS.items():
        inversion = {"prior": warped, name: {"preset": "quick", "keep": 4, "views": 3}}
        protocol = tiny_protocol(inversions={"standard": inversion})
        expected = kind(**{**kind.presets["quick"], "keep": 4, "views": 3})
        assert protocol.unit_spec("u", "split-0", "control").inversions == {"standard": expected}
        canonical = protocol.canonical()
        assert set(canonical["inversions"]["standard"]) == {"prior", name}
        assert Protocol.model_validate(canonical) == protocol


def test_thresholds_are_declared_in_training_and_need_one_worker(content):
    content["training"] = {**content["training"], "thresholds": [0.9, 0.91]}
    protocol = Protocol.model_validate(content)
    assert protocol.canonical()["training"]["thresholds"] == [0.9, 0.91]
    assert Protocol.model_validate(protocol.canonical()) == protocol
    with pytest.raises(ValueError, match="thresholds need workers: 1, got 2"):
        Protocol.model_validate({**content, "workers": 2})
