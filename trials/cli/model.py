"""``atat train``, ``invert`` and ``evaluate``: one target model, without a campaign."""

import dataclasses
import json
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
import yaml

from atat_ray.data import load_split
from atat_ray.data.stored_images import to_bytes
from atat_ray.defenses import DEFENSES
from atat_ray.inversion.cost_estimate import Estimate, estimate
from atat_ray.unit import UnitSpec, run_unit
from atat_ray.unit.block_assets import load_block_prior
from atat_ray.unit.inputs import unit_sources
from atat_ray.unit.invert_stage import invert_stage
from atat_ray.unit.student_stage import load_attacked, student_stage
from atat_ray.unit.train_stage import train_stage
from atat_ray.utils.atomic_files import write_whole
from atat_ray.utils.errors import unknown
from atat_ray.utils.json_files import Damaged, read_json
from atat_ray.utils.stage_files import load_stage
from trials.campaign.inputs import check_inputs, register_inputs
from trials.campaign.layout import FolderLayout
from trials.config import bounded_yaml
from trials.config.load import check_protocol, read_protocol
from trials.execution.display import Lines

MODEL_FILE = "model.json"
UNIT = "model"  # unit id, block and arm of a single model

say = Lines().say


def list_defenses() -> str:
    """List every defense with its summary, options and source."""
    lines = []
    for name, kind in DEFENSES.items():
        options = ", ".join(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]
        lines += [f"{name:<18}{kind.summary}", f"{'':<18}options: {options or 'none'}"]
        lines += [f"{'':<18}source: {kind.source}"]
    return "\n".join(lines)


def parse_defense(arguments: list[str]) -> dict[str, Any]:
    """Parse ``NAME KEY=VALUE ...`` into an arm of a protocol.

    >>> parse_defense(["decoy_noise", "weight=1", "epsilon=0.01"])
    {'defense': 'decoy_noise', 'weight': 1, 'epsilon': 0.01}

    Raises:
        ValueError: the name is unknown, or an option has no equals sign or no readable value.
    """
    name, *settings = arguments
    DEFENSES.find(name)
    for setting in settings:
        if "=" not in setting:
            raise ValueError(f"options of a defense are KEY=VALUE, got {setting!r}")
    try:
        pairs = [setting.split("=", 1) for setting in settings]
        return {"defense": name, **{key: bounded_yaml.parse(value)[0] for key, value in pairs}}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {' '.join(settings)!r} as options of {name}") from error


def train(options: Namespace) -> int:
    """Train a target model and write it to a folder."""
    folder: Path = options.folder
    base = read_protocol(options.protocol).canonical()
    defense = choose_defense(options, base["arms"])
    content = base | {
        "seed": options.seed,
        "blocks": {UNIT: {"split": options.split}},
        "arms": base["arms"] | {UNIT: defense},
        "design": "blocked",
        "units_per_arm": 1,
    }
    protocol = check_protocol(content, "--defense" if options.defense else options.protocol)
    path = folder / MODEL_FILE
    if path.exists() and read_json(path) != protocol.canonical():
        raise ValueError(f"{folder} holds a model with other settings; choose another folder")
    if not path.exists() and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no model; choose another folder")
    write_whole(path, json.dumps(protocol.canonical(), indent=1).encode())
    settings = " ".join(f"{key}={value}" for key, value in defense.items() if key != "defense")
    say(f"training {protocol.architecture} with {defense['defense']} {settings}".rstrip())
    spec = protocol.unit_spec(UNIT, UNIT, UNIT)
    register_inputs(FolderLayout(folder=folder), unit_sources(spec))
    trained = train_stage(spec, folder)
    say(f"clean accuracy {trained['clean_acc']:.3f}, training accuracy {trained['train_acc']:.3f}")
    say(f"next: {shlex.join(['atat', 'invert', str(folder)])}")
    return 0


def choose_defense(options: Namespace, arms: dict[str, Any]) -> dict[str, Any]:
    """Return the arm to train: that of ``--defense`` or ``--arm``, else the protocol's first.

    Raises:
        ValueError: the arm or defense is unknown, or an option has levels.
    """
    if options.arm is not None and options.arm not in arms:
        raise unknown("arm", options.arm, arms)
    if options.defense:
        defense = parse_defense(options.defense)
    else:
        defense = arms[options.arm or next(iter(arms))]
    if any(isinstance(value, dict) for value in defense.values()):
        raise ValueError(f"a single model needs one value for each option, got levels: {defense}")
    return defense


def load(folder: Path) -> UnitSpec:
    """Load the specification of a model that ``train`` wrote.

    Raises:
        ValueError: the folder holds no model, its file is damaged, or the data have changed.
    """
    path = folder / MODEL_FILE
    if not path.exists():
        command = shlex.join(["atat", "train", str(folder)])
        raise ValueError(f"{folder} holds no model; train one with `{command}`")
    try:
        content = read_json(path)
    except Damaged as error:
        raise ValueError(f"{error}; train the model again in another folder") from error
    spec = check_protocol(content, str(path)).unit_spec(UNIT, UNIT, UNIT)
    check_inputs(FolderLayout(folder=folder), unit_sources(spec))
    return spec


def estimate_cost(spec: UnitSpec, inversion: str, folder: Path) -> Estimate:
    """Estimate the duration of an inversion attack; fit its prior first if it is missing."""
    split = load_split(spec.block.data, spec.block.split)
    target = load_attacked(spec, inversion, split, folder / "assets", folder)
    prior = load_block_prior(spec.block, inversion, folder / "assets")
    prior = prior.to(next(target.parameters()).device)
    return estimate(target, prior, split.num_classes, spec.inversions[inversion])


def invert(folder: Path) -> int:
    """Run every inversion attack on a model and write a picture of each."""
    from PIL import Image

    spec = load(folder)
    for inversion, attack in spec.inversions.items():
        say(f"inversion {inversion}: {attack.candidates} candidates a class, "
             f"{attack.steps_per_class()} candidate-steps")  # fmt: skip
        if inversion in spec.students:
            say(f"students: {spec.students[inversion].count} networks, distilled from the target")
            taught = student_stage(spec, inversion, folder / "assets", folder)
            say(f"agreement with the target model on samples {taught['agreement']:.3f}")
        if load_stage(folder / f"invert-{inversion}.pt", spec.invert_hash(inversion)) is None:
            say(str(estimate_cost(spec, inversion, folder)))
        inverted = invert_stage(spec, inversion, folder / "assets", folder)
        row = torch.cat(list(inverted["images"][:: attack.keep]), dim=2)
        pixels = to_bytes(row).permute(1, 2, 0).squeeze(2).numpy()
        path = folder / f"{inversion}.png"
        Image.fromarray(pixels).save(path)
        confidence = float(inverted["confidence"].mean())
        attacked = "attacked network" if spec.adaptation(inversion) else "target model"
        say(f"mean confidence of the {attacked} {confidence:.3f}; the best reconstruction of "
            f"each class is in {path}")  # fmt: skip
    say(f"next: {shlex.join(['atat', 'evaluate', str(folder)])}")
    return 0


def evaluate(folder: Path) -> int:
    """Measure a model and print clean, attack and robust accuracies."""
    spec = load(folder)
    outcome = run_unit(
        spec,
        assets=folder / "assets",
        folder=folder,
        on_stage=lambda stage: say(f"stage {stage}"),
    )
    say(f"{'clean accuracy':<36}{outcome['clean_acc']:.3f}")
    for name, value in outcome["inversions"].items():
        say(f"{name:<36}{value:.3f}")
    for epsilon, value in outcome["robust_acc"].items():
        say(f"{f'robust accuracy at epsilon {epsilon}':<36}{value:.3f}")
    say(f"all values are in {folder / 'outcome.json'}")
    return 0
