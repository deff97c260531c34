"""Run one unit from its specification to its outcome, stage by stage; each stage is a file.

    train -> students (of inversion attacks that have some) -> invert (once for each inversion
    attack) -> score -> robustness -> outcome.json

A unit with the option ``bounds`` has the stage bounds before its outcome.

A stage that is stored is never repeated: its file holds the hash of everything it depends on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from atat_ray.training.threshold_checkpoints import list_at_thresholds
from atat_ray.unit.block_assets import contents
from atat_ray.unit.bounds_stage import bounds_stage
from atat_ray.unit.invert_stage import invert_stage
from atat_ray.unit.jobs import RunJobs, run_serially
from atat_ray.unit.robustness_stage import robustness_stage
from atat_ray.unit.score_stage import score_stage
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.student_stage import student_stage
from atat_ray.unit.train_stage import Trainer, train_here, train_stage
from atat_ray.utils.json_files import NUMBER, Damaged, read_signed, write_signed
from atat_ray.utils.messages import tell_once

OUTCOME = "outcome.json"
OUTCOME_SHAPE = {
    "specification": str,
    "unit_id": str,
    "contents": {"data": str, "evaluation": str, "priors": {str: str}},
    "clean_acc": NUMBER,
    "train_acc": NUMBER,
    "diverged": bool,
    "inversions": {str: NUMBER},
    "robust_acc": {float: NUMBER},
    "classes": [
        {"inversion": str, "class": str}
        | dict.fromkeys(("n", "k_1", "k_5", "lda_k_1", "lda_k_5"), int)
    ],
    "curves": [{str: NUMBER}],
    "seconds": {str: NUMBER},
}

OnStage = Callable[[str], None]


def stage_files(spec: UnitSpec, outcome: dict[str, Any]) -> list[str]:
    """Name the stage files in the folder of a unit that has finished with this outcome."""
    students = {f"students-{spec.first_with_students(name)}.pt": None for name in spec.students}
    inversions = [f"invert-{name}.pt" for name in spec.inversions]
    bounds = ["bounds.pt"] if spec.bounds is not None else []
    selected = outcome.get("selected_after_treatment", {})
    return [
        "train.pt", *students, *inversions, "score.pt", "robustness.pt", *bounds, *selected
    ]  # fmt: skip


def read_outcome(spec: UnitSpec, folder: Path) -> dict[str, Any] | None:
    """Read the outcome of a unit; None if it is not finished with this specification.

    The user is told of a damaged outcome in one line.
    """
    try:
        outcome = read_signed(folder / OUTCOME, shape=OUTCOME_SHAPE)
    except FileNotFoundError:
        return None
    except Damaged as error:
        tell_once(f"{error}; it counts as missing, and is made again where it is needed")
        return None
    return outcome if outcome.get("specification") == spec.outcome_hash() else None


def run_unit(
    spec: UnitSpec,
    *,
    assets: Path,
    folder: Path,
    trainer: Trainer = train_here,
    run_jobs: RunJobs = run_serially,
    on_stage: OnStage = lambda stage: None,
) -> dict[str, Any]:
    """Run the missing stages of a unit and return its outcome.

    Args:
        spec: specification of the unit.
        assets: folder of the block's evaluation models and priors; missing ones are built.
        folder: folder of the unit's stages.
        trainer: trains the target model; ``atat_ray.unit.distributed`` has one for several workers.
        run_jobs: runs the parts of the other stages; ``distributed`` has one for several workers.
        on_stage: called with the name of each stage before it starts.

    Returns:
        Content of ``outcome.json``: outcomes by column name, rows by class, curves, seconds.
    """
    outcome = read_outcome(spec, folder)
    if outcome is not None:
        return outcome
    on_stage("train")
    trained = train_stage(spec, folder, trainer, run_jobs)
    seconds = {"train": trained["seconds"]}
    for inversion in dict.fromkeys(map(spec.first_with_students, spec.students)):
        on_stage(f"students {inversion}")
        taught = student_stage(spec, inversion, assets, folder, run_jobs)
        seconds[f"students_{inversion}"] = taught["seconds"]
    for inversion in spec.inversions:
        on_stage(f"invert {inversion}")
        found = invert_stage(spec, inversion, assets, folder, run_jobs)
        seconds[f"invert_{inversion}"] = found["seconds"]
    on_stage("score")
    scored = score_stage(spec, assets, folder, run_jobs)
    on_stage("robustness")
    robust = robustness_stage(spec, folder, run_jobs)
    seconds |= {"score": scored["seconds"], "robustness": robust["seconds"]}
    outcome = {
        "specification": spec.outcome_hash(),
        "unit_id": spec.unit_id,
        "contents": contents(spec.block, assets),
        "clean_acc": trained["clean_acc"],
        "train_acc": trained["train_acc"],
        "diverged": trained["diverged"],
        "inversions": scored["outcomes"],
        "robust_acc": {f"{epsilon:g}": value for epsilon, value in robust["robust_acc"].items()},
        "classes": scored["classes"],
        "curves": trained["curves"],
        "seconds": seconds,
    }
    if spec.bounds is not None:
        on_stage("bounds")
        measured = bounds_stage(spec, spec.bounds, folder, run_jobs)
        outcome["bounds"] = measured["bounds"]
        seconds["bounds"] = measured["seconds"]
    return save_outcome(spec, folder, outcome)


def save_outcome(spec: UnitSpec, folder: Path, outcome: dict[str, Any]) -> dict[str, Any]:
    """Write an outcome, with the models stored at thresholds, to ``outcome.json``; return it."""
    if spec.training.thresholds:
        outcome["selected_after_treatment"] = list_at_thresholds(
            spec.training.thresholds, folder=folder, specification=spec.train_hash()
        )
    write_signed(folder / OUTCOME, outcome)
    return outcome
