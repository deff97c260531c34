"""Tasks of Ray Tune: train, attack and measure one unit, or build the assets of one block."""

import platform
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from analysis import schema
from atat_ray.unit import BlockSpec, UnitSpec, run_unit
from atat_ray.unit.block_assets import build_block_assets
from atat_ray.unit.computed_on import describe_process, note_process
from atat_ray.unit.inputs import block_sources, unit_sources
from atat_ray.unit.jobs import run_serially
from atat_ray.unit.train_stage import Trainer, train_here
from atat_ray.utils.device import pick_device
from trials.campaign.inputs import ChangedInputs, check_inputs, register_assets
from trials.campaign.layout import FolderLayout
from trials.campaign.notes import write_note
from trials.execution.classify import Kind, classify
from trials.execution.resources import Resources

WITHOUT_ASSETS = ("train", "robustness", "bounds")  # stages that read no assets


class Stopped(Exception):
    """A unit was asked to stop between two stages; finished stages are kept."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What one Tune trial runs.

    Attributes:
        name: unique in a run; of a unit its id.
        layout: of the run folder.
        resources: that the task needs.
    """

    name: str
    layout: FolderLayout
    resources: Resources

    def __str__(self) -> str:
        return self.name  # Tune names the folder of a trial by it

    def run(self) -> None:
        """Do the work in the process of a Tune trial.

        Raises:
            OSError: this node does not see the run folder, or a file cannot be written.
        """
        import torch

        if not self.layout.committed_file.exists():
            raise OSError(
                f"{platform.node()} does not see {self.layout.folder}, which all nodes need"
            )
        torch.set_num_threads(1)  # so that results do not depend on the number of cores
        self.work()

    @abstractmethod
    def work(self) -> None:
        """Do the work."""


@dataclass(frozen=True, kw_only=True)
class AssetTask(Task):
    """Build the evaluation models and priors of a block, in one process.

    Attributes:
        block: the block.
    """

    block: BlockSpec

    def work(self) -> None:
        """Build the assets that are not there yet.

        Raises:
            ChangedInputs: an input or asset has another content than was registered.
        """
        if not self.layout.stop_file.exists():
            check_inputs(self.layout, block_sources(self.block))
            build_and_compare(self.block, self.layout)


@dataclass(frozen=True, kw_only=True)
class UnitTask(Task):
    """Run one unit.

    Attributes:
        spec: of the unit.
        after: name of the task that must be done before.
        retries: how often the workers of a unit of several processes are started again.
        trainer: trains a unit of one process.
    """

    spec: UnitSpec
    after: str
    retries: int = 0
    trainer: Trainer = train_here

    @property
    def folder(self) -> Path:
        """Folder of the unit."""
        return self.layout.unit_folder(self.spec.unit_id)

    def work(self) -> None:
        """Run the stages that are not done; note the reason if the unit fails.

        A failure of the unit is its outcome. Failures of the infrastructure and of the environment
        are raised, and the unit stays pending. So are failures of which changed inputs may be the
        cause.
        """
        write_note(self.folder, "place", {"node": platform.node(), "device": str(pick_device())})
        note_process(self.folder, describe_process())
        try:
            self.run_stages()
        except Stopped:
            return
        except Exception as error:
            failure = classify(error)
            if failure.kind is not Kind.UNIT:
                raise
            self.compare_inputs()
            write_note(self.folder, schema.FAILED, {"reason": failure.reason})

    def run_stages(self) -> None:
        """Run the unit here, or on several workers."""
        from atat_ray.unit.distributed import run_jobs_on_workers, train_on_workers

        trainer, run_jobs = self.trainer, run_serially
        if self.spec.workers > 1:
            options = {"share": self.resources.amounts, "retries": self.retries}
            trainer = partial(train_on_workers, **options)
            run_jobs = partial(
                run_jobs_on_workers, workers=self.spec.workers, folder=self.folder, **options
            )
        run_unit(
            self.spec,
            assets=self.layout.assets,
            folder=self.folder,
            trainer=trainer,
            run_jobs=run_jobs,
            on_stage=self.before_stage,
        )

    def before_stage(self, stage: str) -> None:
        """End the unit before a stage if the run was asked to stop, or if an input has changed."""
        if self.layout.stop_file.exists():
            raise Stopped(stage)
        self.compare_inputs(assets=stage not in WITHOUT_ASSETS)

    def compare_inputs(self, *, assets: bool = False) -> None:
        """Compare the inputs, and on request the assets, with the registered ones.

        Raises:
            ChangedInputs: one differs; the run is asked to stop.
        """
        try:
            check_inputs(self.layout, unit_sources(self.spec))
            if assets:
                build_and_compare(self.spec.block, self.layout)
        except ChangedInputs:
            self.layout.stop_file.touch()
            raise


def build_and_compare(block: BlockSpec, layout: FolderLayout) -> None:
    """Build the assets of a block that are missing, and compare all with the registered ones."""
    register_assets(layout, block.name, build_block_assets(block, layout.assets))
