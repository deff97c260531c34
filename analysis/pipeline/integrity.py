"""Integrity of a trial: numbers by arm, start order, machines and deviations as registered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis import schema
from analysis.inference.reallocation import draws_for, permute_within_blocks
from analysis.inference.table_checks import check_columns, counted
from analysis.record.json_text import parse_json
from analysis.record.reader import Record

_DRAWS = 9_999


@dataclass(frozen=True, kw_only=True, slots=True)
class Integrity:
    """Balance of the allocation as it was run; a p is None where there is nothing to compare."""

    allocated_as_registered: bool  # units_per_arm of each arm in every block
    analysed_p: float | None  # of analysed numbers in the registered ratio
    order_p: float | None  # of mean start order within blocks independent of the arm
    node_p: float | None  # of machines independent of the arm
    nodes: int
    computed_on: tuple[str, ...]  # how finished units differ in processor, kernels and versions
    deviations: tuple[str, ...]

    def __str__(self) -> str:
        def show(p: float | None) -> str:
            return "not tested" if p is None else f"p = {p:.3g}"

        return (
            f"allocation {'as' if self.allocated_as_registered else 'NOT as'} registered; analysed "
            f"numbers {show(self.analysed_p)}, order {show(self.order_p)}, machines "
            f"{show(self.node_p)}; {counted(len(self.deviations), 'deviation')}"
        )


def check_integrity(
    units: pd.DataFrame, analysed: pd.DataFrame, *, per_arm: dict[str, int], seed: int
) -> Integrity:
    """Compare the trial as it was run with the registered one.

    Order and machines are tested by permuting arms within blocks, 9,999 draws, p = (1+b)/(1+B).

    Args:
        units: every allocated unit.
        analysed: units with the primary outcome.
        per_arm: registered number of units of each arm in every block.
        seed: of the permutations.
    """
    check_columns(units, ["unit_id", "block", "arm", "start_order", "node"])
    registered = [
        int(np.count_nonzero((units["block"] == b) & (units["arm"] == arm))) == n
        for b in set(units["block"])
        for arm, n in per_arm.items()
    ]
    started = units.loc[units["start_order"].notna()]
    drawn = permute_within_blocks(
        pd.factorize(started["arm"])[0].astype(np.int16),
        pd.factorize(started["block"])[0],
        draws=draws_for(len(started), _DRAWS),
        seed=seed,
    )
    nodes = sorted(set(started["node"]))
    return Integrity(
        allocated_as_registered=all(registered),
        analysed_p=sample_ratio_p(
            [int(np.count_nonzero(analysed["arm"] == arm)) for arm in per_arm],
            list(per_arm.values()),
        ),
        order_p=_order_p(started, drawn),
        node_p=_node_p(started, drawn) if len(nodes) > 1 else None,
        nodes=len(nodes),
        computed_on=tuple(_processor_differences(units)),
        deviations=tuple(_deviations(units)),
    )


def sample_ratio_p(counts: list[int], registered: list[int]) -> float | None:
    """Test that counts are in the registered ratio; None without units.

    Exact binomial for two arms, chi-squared for more. Complete randomisation fixes the allocated
    numbers, so on analysed units this tests whether losses are even, and is conservative.
    """
    if sum(counts) == 0 or len(counts) < 2:
        return None
    share = np.array(registered) / sum(registered)
    if len(counts) == 2:
        return float(stats.binomtest(counts[0], sum(counts), share[0]).pvalue)
    return float(stats.chisquare(counts, sum(counts) * share).pvalue)


def _order_p(units: pd.DataFrame, drawn: np.ndarray) -> float | None:
    """Test by the spread of the arms' mean order, ranked within blocks."""
    if len(set(units["arm"])) < 2:
        return None
    order = units["start_order"].astype(float)
    rank = order.groupby(units["block"]).rank()
    centred = (rank - rank.groupby(units["block"]).transform("mean")).to_numpy(dtype=float)
    spread = np.zeros(len(drawn))
    for a in range(int(drawn.max()) + 1):
        inside = drawn == a
        spread += (inside @ centred) ** 2 / np.maximum(inside.sum(axis=1), 1)
    return float(np.mean(spread >= spread[0] - 1e-9))


def _node_p(units: pd.DataFrame, drawn: np.ndarray) -> float:
    """Test by the chi-squared statistic of the table of arms and machines."""
    node = pd.factorize(units["node"])[0]
    indicator = (node[:, None] == np.arange(node.max() + 1)).astype(float)
    statistic = np.zeros(len(drawn))
    for a in range(int(drawn.max()) + 1):
        inside = (drawn == a).astype(float)
        expected = inside[0].sum() * indicator.mean(axis=0)
        statistic += ((inside @ indicator - expected) ** 2 / np.maximum(expected, 1e-12)).sum(
            axis=1
        )
    return float(np.mean(statistic >= statistic[0] - 1e-9))


def _processor_differences(units: pd.DataFrame) -> list[str]:
    """Say how finished units differ in what they were computed on; empty where none is recorded."""
    tags = [tag for tag in schema.PROCESSOR_TAGS if tag in units]
    finished = units.loc[units["status"] == schema.FINISHED, tags]
    return schema.processor_differences(finished.to_dict("records"))


def _deviations(units: pd.DataFrame) -> list[str]:
    """Describe each deviation from the registered protocol."""
    found: list[str] = []
    statuses = list(units["status"])
    failed, pending = (statuses.count(name) for name in (schema.FAILED, schema.PENDING))
    allocated = counted(len(units), "unit")
    if failed:
        found.append(f"{failed} of {allocated} failed")
    if pending:
        found.append(f"{pending} of {allocated} {'is' if pending == 1 else 'are'} not finished")
    if "failed_before" in units:
        again = units.loc[units["failed_before"].fillna("") != ""]
        for row in again.to_dict("records"):
            found.append(
                f"{row['unit_id']} ({row['arm']}) failed and was run again on request, after its "
                f"failure was known: {row['failed_before']}"
            )
    for column, what in (
        ("data_sha256", "data"),
        ("evaluation_sha256", "evaluation models"),
        ("prior_sha256", "priors"),
    ):
        if column not in units:
            continue
        measured = units.loc[(units["status"] == schema.FINISHED) & (units[column] != "")]
        for block, rows in measured.groupby("block"):
            if len(set(rows[column])) > 1:
                found.append(f"units of block {block} were measured with different {what}")
    return found


def content_deviations(record: Record) -> list[str]:
    """Name the units that read other data, or were measured by others, than the record lists.

    Nothing but the record is read: the tags of the units, the inputs that were registered before
    the first unit, and the assets that were built.
    """
    try:
        inputs = parse_json(record.tags.get(schema.INPUTS) or "{}", dict, "the tag inputs")
        registered = set(inputs.values())
    except (ValueError, TypeError):
        return ["the record's list of registered inputs cannot be read"]
    models = {
        asset.get("block"): asset.get("content_sha256")
        for asset in record.assets
        if asset.get("asset") == "evaluation models"
    }
    found = []
    for row in record.units.to_dict("records"):
        data, evaluation = row.get("data_sha256"), row.get("evaluation_sha256")
        if data and registered and data not in registered:
            found.append(f"{row['unit_id']} was measured on other data than were registered")
        built = models.get(row["block"])
        if evaluation and built and evaluation != built:
            found.append(
                f"{row['unit_id']} was measured by other evaluation models than the record lists"
            )
    return found
