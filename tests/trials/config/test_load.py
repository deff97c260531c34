"""Each mistake in a protocol is reported in one line: file, line, given value, allowed values."""

import os
import time
from copy import deepcopy
from random import Random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trials.config.load import SHIPPED, check_protocol, read_protocol, read_sweep
from trials.config.protocol import Protocol


def put(path, value):
    """Return a change that sets one value."""
    *parents, last = path.split("/")

    def change(content):
        for key in parents:
            content = content[key]
        content[last] = value

    return change


def drop(path):
    """Return a change that removes one key."""
    *parents, last = path.split("/")

    def change(content):
        for key in parents:
            content = content[key]
        del content[last]

    return change


def misspell_alpha(content):
    content["alpa"] = content.pop("alpha")


LINEAR = {"prior": {"name": "rotated_pca"}}
PEOPLE = {"name": "orl_faces", "num_private": 5, "num_train": 7, "size": 32}
# By name: change of a valid protocol, part of the message, and a text that occurs only on the line
# that the message must give.
BAD = {
    "a wrong key": (misspell_alpha, "unknown key 'alpa' (did you mean 'alpha'?)", "alpa:"),
    "a wrong key inside": (
        put("arms/treatment/epsilom", 0.01),
        "unknown key 'arms.treatment.epsilom' (did you mean 'arms.treatment.epsilon'?)",
        "epsilom:",
    ),
    "a wrong key deep inside": (
        put("training/augmentation/rotate", 3),
        "unknown key 'training.augmentation.rotate' (did you mean 'training.augmentation.rotation'",
        "rotate:",
    ),
    "a wrong key of a block's own data": (
        put("blocks/split-0/data", {"name": "orl_faces", "num_private": 6, "num_trian": 7}),
        "'blocks.split-0.data.num_trian' (did you mean 'blocks.split-0.data.num_train'?)",
        "num_trian:",
    ),
    "a key that is a number": (lambda c: c.update({1: 2}), "1: keys should be strings", "1: 2"),
    "a key of two lines": (
        lambda c: c["arms"].update({"a\nb": {"defense": "none"}}),
        "a name has at most 63 characters out of a-z",
        "? 'a",
    ),
    "an unknown defense": (
        put("arms/treatment/defense", "anti-adversarial"),
        "unknown defense 'anti-adversarial' (did you mean 'anti_adversarial'?)",
        "  treatment:\n    defense:",
    ),
    "no defense": (
        put("arms/treatment", None),
        "arms.treatment: needs defense: NAME, one of",
        "treatment: null",
    ),
    "a weight below 0": (
        put("arms/treatment/weight", -1),
        "arms.treatment: weight (lambda) must be 0 or above, got -1",
        "  treatment:\n    defense:",
    ),
    "an epsilon in gray levels": (
        put("arms/treatment/epsilon", 8),
        "arms.treatment: epsilon is an L-infinity radius in pixel units, images in [0, 1]: "
        "it must be above 0 and at most 1, got 8; for 8/255 write 0.0313725",
        "  treatment:\n    defense:",
    ),
    "an arm named as its defense": (
        put("arms/decoy_noise", {"defense": "decoy_noise", "weight": -1, "epsilon": 0.01}),
        "arms.decoy_noise: weight (lambda) must be 0 or above",
        "decoy_noise:",
    ),
    "a missing key": (drop("alpha"), "alpha is missing", "name: tiny"),
    "a missing option": (
        drop("arms/treatment/steps"),
        "arms.treatment.steps is missing; is 'step_size' a misspelling of it?",
        "  treatment:\n    defense:",
    ),
    "a wrong type": (put("seed", "seven"), "seed: input should be a valid integer", "seed:"),
    "a share of an epoch": (put("training/epochs", 2.5), "training.epochs: ", "epochs: 2.5"),
    "no number": (put("alpha", float("nan")), "alpha: input should be a finite number", "alpha:"),
    "an infinite number": (
        put("arms/treatment/weight", float("inf")),
        "arms.treatment.weight: input should be a finite number, got inf",
        "weight: .inf",
    ),
    "an infinite number in a list": (
        put("robustness/epsilons", [0.01, float("inf")]),
        "robustness.epsilons.1: input should be a finite number, got inf",
        "- .inf",
    ),
    "a wrong name": (put("name", "My Trial"), "name: a name has at most 63 char", "name: My"),
    "no block": (put("blocks", {}), "blocks: ", "blocks:"),
    "one arm": (drop("arms/treatment"), "arms: ", "arms:"),
    "no unit": (put("units_per_arm", 0), "units_per_arm: ", "units_per_arm:"),
    "units that are no number": (
        put("units_per_arm", "many"),
        "units_per_arm: ",
        "units_per_arm:",
    ),
    "units of an unknown arm": (
        put("units_per_arm", {"control": 1, "treatmnet": 1}),
        "unknown arm in units_per_arm 'treatmnet' (did you mean 'treatment'?)",
        "treatmnet:",
    ),
    "an arm without its number": (
        put("units_per_arm", {"control": 1}),
        "units_per_arm has no number for treatment",
        "units_per_arm:",
    ),
    "pairs of unequal arms": (
        lambda c: c.update(design="pairs", units_per_arm={"control": 1, "treatment": 2}),
        "design: pairs needs one number in units_per_arm, got one for each arm",
        "units_per_arm:",
    ),
    "an unknown design": (put("design", "crossover"), "design: ", "design:"),
    "an unknown arm": (
        put("contrasts/primary/against", "contrl"),
        "unknown arm in contrasts 'contrl' (did you mean 'control'?); known: control, treatment",
        "against:",
    ),
    "an arm against itself": (
        put("contrasts/primary/against", "treatment"),
        "a contrast needs two arms, got 'treatment' against itself",
        "primary:",
    ),
    "no primary contrast": (
        put("contrasts", {"main": {"arm": "treatment", "against": "control"}}),
        "primary",
        "contrasts:",
    ),
    "an unknown outcome": (
        put("outcome", "standard/att_acc"),
        "unknown outcome 'standard/att_acc' (did you mean 'standard/att_acc_",
        "outcome:",
    ),
    "an outcome of no inversion": (
        put("outcome", "strong/att_acc_1"),
        "unknown outcome",
        "outcome:",
    ),
    "an unknown architecture": (
        put("architecture", "small_resnt"),
        "unknown architecture 'small_resnt' (did you mean 'small_resnet'?)",
        "architecture:",
    ),
    "an unknown dataset": (
        put("data/name", "orl"),
        "data: unknown dataset 'orl' (did you mean 'orl_faces'?)",
        "data:",
    ),
    "an unknown prior": (
        put("inversions/standard/prior/name", "pca"),
        "inversions.standard.prior: unknown prior 'pca'",
        "    prior:",
    ),
    "no inversion attack": (
        drop("inversions/standard/ppa"),
        "inversions.standard: needs exactly one attack beside prior, one of if_gmi, ppa, ppdg; got "
        "none",
        "  standard:",
    ),
    "two inversion attacks": (
        put("inversions/standard/ppdg", {"preset": "quick"}),
        "inversions.standard: needs exactly one attack beside prior, one of if_gmi, ppa, ppdg; got "
        "ppa and",
        "  standard:",
    ),
    "an inversion attack that the prior does not support": (
        put("inversions/standard", {**LINEAR, "if_gmi": {"preset": "quick"}}),
        "inversions.standard: if_gmi needs a prior with stages, this one has none; choose one of "
        "stylegan2, warped",
        "  standard:",
    ),
    "an inversion named as other columns of the record": (
        put("inversions/epoch", {**LINEAR, "ppa": {"preset": "quick"}}),
        "an inversion may not be named 'epoch': other columns of the record begin with bounds, "
        "epoch, robust_acc, seconds; choose another name, such as standard",
        "  epoch:",
    ),
    "an unknown preset of an inversion attack": (
        put("inversions/standard", {**LINEAR, "ppa": {"preset": "fast"}}),
        "inversions.standard.ppa: unknown preset 'fast'; known: paper, quick",
        "    ppa:",
    ),
    "an unknown loss": (
        put("inversions/standard/ppa/loss", "poincarre"),
        "inversions.standard.ppa: unknown loss 'poincarre' (did you mean 'poincare'?)",
        "    ppa:",
    ),
    "a wrong key of an inversion attack": (
        put("inversions/standard/ppa/step", 3),
        "unknown key 'inversions.standard.ppa.step' (did you mean 'inversions.standard.ppa.steps'",
        "step:",
    ),
    "an unknown attack set": (
        put("robustness/attacks", "apgd10"),
        "robustness: unknown attack set 'apgd10' (did you mean 'apgd-10'?)",
        "robustness:",
    ),
    "fewer people than a loss of AutoAttack compares": (
        put("data/num_private", 3),
        "attack set 'apgd-10' has DLR losses, which need 4 classes or more, got 3; sets that allow "
        "3: apgd-ce, fab-t, square",
        "num_private:",
    ),
    "a block of fewer people than a loss of AutoAttack compares": (
        put("blocks/split-0/data", {**PEOPLE, "num_private": 3}),
        "attack set 'apgd-10' has DLR losses, which need 4 classes or more, got 3",
        "num_private: 3",
    ),
    "more attacked classes than people": (
        put("inversions/standard/ppa/attacked_classes", 7),
        "attacked_classes must be at most 6, the number of classes, got 7; omit it for all",
        "attacked_classes:",
    ),
    "fewer images than people": (
        put("data/at_most", 4),
        "data.at_most must be at least num_private, so that each person has an image, got 4 images "
        "of 6 people",
        "at_most:",
    ),
    "fewer images than people in a block": (
        put("blocks/split-1/data", {**PEOPLE, "at_most": 4}),
        "blocks.split-1.data.at_most must be at least num_private",
        "at_most:",
    ),
    "workers that do not divide the batch": (
        put("workers", 4),
        "training.batch_size must be a multiple of workers, got 14 for 4 workers",
        "batch_size: 14",
    ),
}


def line_with(text, part):
    """Find the line, from 1, on which the only occurrence of ``part`` begins."""
    assert text.count(part) == 1, part
    return text[: text.index(part)].count("\n") + 1


def complaint(path):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is what is tested
        read_protocol(str(path))
    return str(caught.value)


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_reported_in_one_line_with_file_and_line(content, write_protocol, name):
    change, words, part = BAD[name]
    change(content)
    path = write_protocol(content)
    message = complaint(path)
    assert "\n" not in message
    assert words in message
    assert message.startswith(f"{path}:{line_with(path.read_text(), part)}: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ": a protocol must be a mapping of keys; see "),
        ("- control\n- treatment\n", ": a protocol must be a mapping of keys"),
        ("name: [tiny\nseed: 7\n", ":2: not YAML: "),
        ("name: tiny\nseed: 7\nname: tiny-2\n", ":3: the key name is given twice; remove one"),
        ("arms:\n  a: {defense: none}\n  a: {defense: none}\n", ":3: the key a is given twice"),
        ("? [a]\n: 1\n", ":1: not YAML: "),
        ("name: a\n---\nname: b\n", ":2: not YAML: "),
        ("name: !!python/object:os.system a\n", ":1: not YAML: "),
        ("name: \x07\n", ": not YAML: "),
        ("seed: 2026-13-45\n", "month"),  # YAML reads a date, which does not exist
        ("seed: " + 5000 * "9", "digits"),
        ("arms: &arms {control: *arms}\n", ""),
        ("name: &name [*name]\n", ""),
        ("name: " + 3000 * "[", ""),
    ],
    ids=[
        "empty", "list", "not YAML", "key twice", "arm twice", "list as key", "two documents",
        "object", "bell", "not a date", "long number", "arms in arms", "list in itself", "deep",
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_protocol_is_refused_in_one_line_with_the_file(tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    message = complaint(path)
    assert "\n" not in message
    assert str(path) in message
    assert words in message


def test_a_binary_file_is_refused_in_one_line_with_the_file(tmp_path):
    path = tmp_path / "picture.yaml"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + Random(0).randbytes(1000))
    message = complaint(path)
    assert message.startswith(f"cannot read the protocol {path}: ")
    assert "\n" not in message


NINE = "[" + ", ".join(["*{0}"] * 9) + "]"
# Nine anchors, each a list of nine of the one before: 9^9 values in ten lines.
BOMB = "a: &a [x]\n" + "".join(
    f"{name}: &{name} {NINE.format(before)}\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "more than 20,000 keys and values, each alias counted as what it stands for"),
        (
            "a: &a {x: 1}\n" + "".join(
                f"{b}: &{b} {{<<: [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}]}}\n"
                for a, b in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            "more than 20,000 keys and values",
        ),
        ("x: &x [*x]\n", "the anchor in line 1 contains itself"),
        ("arms: &arms {control: *arms}\n", "the anchor in line 1 contains itself"),
        ("name: a\nseed: " + "1:" * 30_000 + "1", "line 2 has a value of 60,001 characters"),
        ("# " + "x" * 200_000, "bytes are too many, 200,000 are allowed"),
        ("[" + "1," * 30_000 + "]", "more than 20,000 keys and values"),
    ],
    ids=["lists", "merged keys", "itself", "arms", "base 60", "large", "long"],
)  # fmt: skip
def test_a_file_that_stands_for_too_much_is_refused_before_it_is_made(tmp_path, text, words):
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    started = time.process_time()
    message = complaint(path)
    assert time.process_time() - started < 10
    assert words in message
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.parametrize("text", ["name: 'a\\e[2Jb'", "'a\\e[2J': 1", '"\\e]0;x\\a\\n": 1',
                                  '? "\\e[1m"\n: 1\n? "\\e[1m"\n: 2', "seed: 0x" + "f" * 9000,
                                  "alpha: " + "x" * 9000])  # fmt: skip
def test_an_error_shows_no_control_character_and_no_long_value(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    message = complaint(path)
    assert message.isprintable()
    assert len(message) < 2500


@pytest.mark.parametrize("name", ["folder", "folder.yaml", "missing.yaml", "orl-rtc", ""])
def test_a_missing_file_or_unknown_name_is_refused_with_the_shipped_names(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.yaml").mkdir()
    message = complaint(name)
    assert "\n" not in message
    assert name in message
    assert "orl-aa, orl-defenses, orl-rct" in message


def test_the_nearest_shipped_name_is_suggested():
    assert "did you mean 'orl-rct'" in complaint("orl-rtc")


CONTENT = yaml.safe_load((SHIPPED / "orl-rct.yaml").read_text())
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 10**30, -(10**400), 1e308, -0.5]),
    st.floats(),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.just("levels"), values, max_size=3)
    ),
    max_leaves=4,
)
KEYS = st.text(max_size=8) | st.none() | st.integers() | st.sampled_from(["levels", "a\nb"])


def places(node, path=()):
    """List the path of every node below the top."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, (dict, list)):
            found += places(value, (*path, key))
    return found


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_one_changed_node_gives_a_protocol_or_an_error_of_one_line(data):
    content = deepcopy(CONTENT)
    *parents, last = data.draw(st.sampled_from(places(content)), label="place")
    node = content
    for key in parents:
        node = node[key]
    action = data.draw(st.sampled_from(["delete", "replace", "add"]), label="action")
    if action == "delete":
        del node[last]
    elif action == "add" and isinstance(node[last], dict):
        node[last][data.draw(KEYS, label="key")] = data.draw(VALUES, label="value")
    else:
        node[last] = data.draw(VALUES, label="value")
    try:
        assert isinstance(check_protocol(content, "mine.yaml"), Protocol)
    except ValueError as error:
        message = str(error)
        assert message.startswith("mine.yaml: ")
        assert len(message.splitlines()) == 1


STYLEGAN2 = {"name": "stylegan2", "path": "priors/g.safetensors", "sha256": "a" * 64}
PHOTOS = {"name": "image_folder", "num_private": 6, "num_train": 1, "size": 32}


@pytest.mark.parametrize("here", [".", "elsewhere"])
def test_relative_paths_start_at_the_folder_of_the_file(
    content, write_protocol, sweep_content, tmp_path, monkeypatch, here
):
    """Processes of a cluster work in other folders than the one that ``atat`` was started in."""
    content["data"] = PHOTOS | {"root": "photos"}
    content["blocks"]["split-1"]["data"] = PHOTOS | {"root": "../others"}
    content["inversions"]["standard"]["prior"] = STYLEGAN2
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "trials").mkdir()
    path = write_protocol(content, "trials/mine.yaml")
    monkeypatch.chdir(tmp_path / here)
    protocol = read_protocol(os.path.relpath(path))
    assert protocol.data.root == f"{tmp_path}/trials/photos"
    assert protocol.blocks["split-1"].data.root == f"{tmp_path}/others"
    assert protocol.inversions["standard"].prior.path == f"{tmp_path}/trials/priors/g.safetensors"
    assert Protocol.model_validate(protocol.canonical()) == protocol
    grid = {
        "method": "grid",
        "options": {"weight": {"levels": [1.0]}, "epsilon": {"levels": [0.01]}},
    }
    sweep = read_sweep(str(write_protocol(sweep_content(grid), "trials/sweep.yaml")))
    assert sweep.data.root == f"{tmp_path}/trials/photos"


@pytest.mark.parametrize("root", ["/srv/photos", "~/photos"])
def test_paths_that_are_absolute_or_in_the_home_folder_stay(content, write_protocol, root):
    content["data"] = PHOTOS | {"root": root}
    assert read_protocol(str(write_protocol(content))).data.root == root
