"""Write docs/results/orl-defenses.md from a campaign of the protocol orl-defenses.

    .venv/bin/atat run orl-defenses
    .venv/bin/python benchmarks/orl_defenses.py runs/orl-defenses

The script reads the outcomes of all finished units and measures what the record does not contain
(dependence of features, metrics of reconstructions), which it stores in the folder of each unit. It
writes the page with its table, the table as CSV, and three figures with one mark for each unit.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import torch

from analysis.inference.difference import difference_in_means
from atat_ray.defenses import DEFENSES
from atat_ray.unit import read_outcome
from atat_ray.unit.measure_stage import measure_stage
from trials.campaign.campaign import Campaign

matplotlib.use("Agg")
ROBUST = 0.0025  # the epsilon of the second figure, pixel units
LEAKAGE = "standard/att_acc_1"
FIGURES = {
    "clean": ("clean_acc", "clean accuracy"),
    "robust": (f"robust_acc/{ROBUST:g}", f"robust accuracy at epsilon {ROBUST:g}"),
    "hsic": ("cka_x", "CKA of stages and images (unbiased HSIC, normalised)"),
}
COLUMNS = {
    "units": "units",
    "clean_acc": "clean",
    LEAKAGE: "AttAcc@1",
    "strong/att_acc_1": "AttAcc@1, strong",
    "standard/delta_eval": "delta",
    "standard/target_confidence": "target's confidence",
    "standard/evaluation_confidence": "evaluator's confidence",
    f"robust_acc/{ROBUST:g}": f"robust @{ROBUST:g}",
    "hsic_x": "HSIC(X), 1e-3",
    "cka_x": "CKA(X)",
    "nocco_x": "nocco(X)",
    "coverage": "coverage",
    "frechet": "Frechet",
    "knowledge": "knowledge",
}


def rows_of(campaign: Campaign) -> list[dict[str, Any]]:
    """Collect one row for each finished unit."""
    rows = []
    for assigned in campaign.table:
        spec, folder = campaign.spec(assigned), campaign.unit_folder(assigned.unit_id)
        outcome = read_outcome(spec, folder)
        if outcome is None:
            continue
        print(f"{assigned.unit_id} {assigned.arm}", flush=True)
        measured = measure_stage(spec, campaign.assets, folder)
        robust = {f"robust_acc/{name}": value for name, value in outcome["robust_acc"].items()}
        row = {
            "unit": assigned.unit_id,
            "block": assigned.stratum,
            "arm": assigned.arm,
            "defense": DEFENSES.name_of(type(spec.defense)),
            "clean_acc": outcome["clean_acc"],
            "train_acc": outcome["train_acc"],
            "diverged": outcome["diverged"],
            **outcome["inversions"],
            **robust,
            **measured["dependence"],
            **measured["pictures"]["standard"],
        }
        row["hsic_x"] = 1e3 * row.get("hsic_x", float("nan"))
        rows.append(row)
    return rows


def table_of(units: pd.DataFrame) -> str:
    """Format the means of each arm as a Markdown table, sorted by defense."""
    order = units["arm"].drop_duplicates().tolist()
    numbers = [name for name in COLUMNS if name != "units"]
    means = units.groupby("arm")[numbers].mean().loc[order]
    counts = units.groupby("arm").size()
    lines = ["| arm | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for arm, row in means.iterrows():
        cells = [f"{row[name]:.3f}" for name in numbers]
        lines.append(f"| {arm} | {counts[arm]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(units: pd.DataFrame, column: str, label: str, path: Path) -> None:
    """Plot leakage against a column, one mark for each unit, coloured and shaped by defense."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    colours, shapes = pyplot.get_cmap("tab20"), "osD^v<>PX*phd8"
    for number, (name, part) in enumerate(units.groupby("defense", sort=False)):
        axes.scatter(
            part[column], part[LEAKAGE], s=28, alpha=0.8, label=str(name),
            color=colours(number % 20), marker=shapes[number % len(shapes)],
        )  # fmt: skip
    axes.set_xlabel(label)
    axes.set_ylabel("leakage: AttAcc@1, standard attack")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def within_blocks(units: pd.DataFrame, column: str) -> float:
    """Compute the correlation of leakage and a column over their ranks within blocks."""
    ranks = units.groupby("block")[[LEAKAGE, column]].rank(pct=True)
    return float(ranks[LEAKAGE].corr(ranks[column]))


def places(units: pd.DataFrame) -> str:
    """Compare the arms with the control within blocks; sort defenses by their lowest leakage."""
    control = str(units.loc[units["defense"] == "none", "arm"].iloc[0])
    rows = []
    for arm, part in units[units["arm"] != control].groupby("arm", sort=False):
        pair = units[units["arm"].isin([arm, control])].rename(columns={"unit": "unit_id"})
        leak, clean = (
            difference_in_means(pair[["unit_id", "block", "arm", outcome]], outcome, arm=str(arm),
                                against=control)
            for outcome in (LEAKAGE, "clean_acc")
        )  # fmt: skip
        rows.append((part["defense"].iloc[0], arm, leak, clean))
    best = {name: min(r[2].estimate for r in rows if r[0] == name) for name, *_ in rows}
    rows.sort(key=lambda row: (best[row[0]], row[2].estimate))
    lines = [
        "| defense | arm | AttAcc@1, pp against the control | clean accuracy, pp |",
        "|---|---|---|---|",
    ]
    for name, arm, *found in rows:
        cells = [f"{d.estimate:+.1f} ({d.low:+.1f} to {d.high:+.1f})" for d in found]
        lines.append(f"| {name} | {arm} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def surprises(units: pd.DataFrame) -> list[str]:
    """State the unexpected findings, each by a fixed rule on the numbers."""
    means = units.groupby("arm", sort=False)[[LEAKAGE, "clean_acc", FIGURES["robust"][0], "cka_x"]]
    table = means.mean().set_axis(["leak", "clean", "robust", "cka"], axis=1)
    defense = units.groupby("arm", sort=False)["defense"].first()
    control = table.loc[defense == "none"].iloc[0]
    lower = table[table["leak"] < control["leak"] - 0.1]
    robust = lower[lower["robust"] > control["robust"] / 2]
    fragile = table[(table["robust"] < 0.1) & (table["leak"] > control["leak"] - 0.15)]
    dependent = lower[lower["cka"] > control["cka"] + 0.02]
    rules = [
        ("Arms that leak at least 10 points less and keep more than half of the control's robust "
         "accuracy: less leakage does not need a loss of robustness", robust),
        ("Arms that lose nearly all robust accuracy (below 0.1) and leak at most 15 points less: "
         "a loss of robustness is not enough for much less leakage", fragile),
        ("Arms that leak at least 10 points less although their stages depend more on the images "
         "(CKA higher by 0.02 or more): less leakage does not need less dependence", dependent),
    ]  # fmt: skip
    lines = []
    for rule, arms in rules:
        rows = [
            f"{arm} (AttAcc@1 {row.leak:.3f}, clean {row.clean:.3f}, robust {row.robust:.3f}, "
            f"CKA {row.cka:.3f})"
            for arm, row in arms.iterrows()
        ]
        lines += [rule, "", *[f"- {row}" for row in rows or ["none"]], ""]
    return lines


def findings(units: pd.DataFrame) -> str:
    """State the findings that fixed rules derive from the numbers."""
    lines = ["Rank correlation with AttAcc@1 over units, within blocks (descriptive, no test):", ""]
    for column, label in FIGURES.values():
        lines.append(f"- {label}: {within_blocks(units, column):+.2f}")
    lines.append(f"- nocco, which earlier work calls HSIC: {within_blocks(units, 'nocco_x'):+.2f}")
    control = units[units["defense"] == "none"]
    clean, leak = control["clean_acc"].mean(), control[LEAKAGE].mean()
    lines += ["", f"The control has clean accuracy {clean:.3f} and AttAcc@1 {leak:.3f}. These arms "
              "do not lower mean AttAcc@1:", ""]  # fmt: skip
    means = units.groupby("arm", sort=False)[[LEAKAGE, "clean_acc"]].mean()
    useless = [str(arm) for arm, row in means.iterrows() if row[LEAKAGE] >= leak]
    useless = [arm for arm in useless if arm not in set(control["arm"])]
    lines.append(", ".join(useless) or "none")
    near = means[(means["clean_acc"] >= clean - 0.03) & (means[LEAKAGE] < leak)]
    best = near.sort_values(LEAKAGE).head(5)
    lines += ["", "Lowest AttAcc@1 among arms within 3 points of the control's clean accuracy:", ""]
    lines += [f"- {arm}: {row[LEAKAGE]:.3f} at clean {row['clean_acc']:.3f}"
              for arm, row in best.iterrows()] or ["- none"]  # fmt: skip
    lines += ["", *surprises(units)]
    below = units[units["clean_acc"] < 0.5]["arm"].value_counts()
    lines += ["", "Number of units with clean accuracy below 0.5, whose leakage alone cannot be "
              "interpreted:", ""]  # fmt: skip
    lines += [f"- {arm}: {count}" for arm, count in below.items()] or ["- none"]
    return "\n".join(lines)


def main() -> None:
    """Write the page, the table and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the campaign")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    campaign = Campaign.load(options.folder)
    units = pd.DataFrame(rows_of(campaign))
    if not units.empty:
        place = units["defense"].map(list(DEFENSES).index)
        units = units.iloc[(place.astype(str).str.zfill(2) + units["arm"]).argsort()]
    if units.empty:
        parser.error(f"no unit in {options.folder} is finished; run `atat run orl-defenses`")
    options.out.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9-]", "-", campaign.settings.name)
    units.to_csv(options.out / f"{name}.csv", index=False, float_format="%.6g")
    images = []
    for key, (column, label) in FIGURES.items():
        draw(units, column, label, options.out / f"{name}-{key}.png")
        images.append(f"![leakage against {label}]({name}-{key}.png)")
    unfinished = len(campaign.table) - len(units)
    text = f"""# Every defense on the ORL faces

Protocol `{campaign.settings.name}`, {len(units)} finished units of {len(campaign.table)}
({unfinished} unfinished), {len(campaign.settings.blocks)} blocks. Made by

    .venv/bin/atat run {campaign.settings.name}
    .venv/bin/python benchmarks/orl_defenses.py runs/{campaign.settings.name}

{findings(units)}

{chr(10).join(images)}

## Ranking of the defenses

Differences from the control within blocks, each with its own 95 % interval. The 42 comparisons are
not adjusted for their number, so they are exploratory. Defenses are sorted by the leakage of their
best arm. A lower AttAcc@1 can be the result of a lower clean accuracy alone.

{places(units)}

## Means of each arm

Dependence is measured between the four stages and the private training images, without
augmentation. All epsilons are in pixel units. [{name}.csv]({name}.csv) has one row for
each unit.

{table_of(units)}
"""
    (options.out / f"{name}.md").write_text(text)
    print(options.out / f"{name}.md")


if __name__ == "__main__":
    main()
