"""The page and its tables: self-contained, deterministic, and honest about what is missing."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import RunTag

from analysis import schema
from analysis.__main__ import main
from analysis.pipeline.primary import analyse
from analysis.record.reader import Record, load_record
from analysis.report import Report, conclude, write_report
from analysis.report.image_strips import strips
from analysis.report.interim_looks import lost_looks, recorded_looks

Campaign = tuple[str, str]
MakeProtocol = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def report(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Write the report of the finished campaign."""
    return write_report(record, tmp_path_factory.mktemp("report"))


def page_of(campaign: Campaign, folder: Path) -> tuple[str, str]:
    report = write_report(load_record(*campaign), folder)
    return report.verdict, report.page.read_text(encoding="utf-8")


class _Page(HTMLParser):
    """Collect the visible text, the addresses, the ids and the open tags of a page."""

    VOID = frozenset({"meta", "img", "br", "path", "use", "link", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "action")]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def parse(page: str) -> _Page:
    parser = _Page()
    parser.feed(page)
    return parser


def sentences(text: str) -> int:
    return len(re.findall(r"[.!?](?=\s|$)", text))


def test_page_refers_to_nothing_outside_itself(report: Report) -> None:
    parsed = parse(report.page.read_text(encoding="utf-8"))
    assert parsed.addresses
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in parsed.addresses)
    assert not re.search(r"@import|url\((?!#)", report.page.read_text(encoding="utf-8"))


def test_page_is_well_formed_and_ids_are_unique(report: Report) -> None:
    parsed = parse(report.page.read_text(encoding="utf-8"))
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    inner = {a[1:] for a in parsed.addresses if a.startswith("#")}
    assert inner <= set(parsed.ids)


def test_no_missing_value_shows_through(report: Report) -> None:
    text = " ".join(parse(report.page.read_text(encoding="utf-8")).words)
    assert not re.search(r"\b(nan|NaN|None|inf|NA|<NA>)\b", text.replace("defense none", ""))


def test_same_record_gives_the_same_bytes(
    report: Report, finished: Campaign, tmp_path: Path
) -> None:
    again = write_report(load_record(*finished), tmp_path)
    for name in ("page", "units", "classes", "effects"):
        assert getattr(again, name).read_bytes() == getattr(report, name).read_bytes()
    assert again.files
    for path in again.files:
        twin = report.page.parent / path.relative_to(tmp_path)
        assert path.read_bytes() == twin.read_bytes()
    top = ["classes.csv", "effects.csv", "report.html", "tables", "tables.md", "units.csv"]
    assert sorted(p.name for p in tmp_path.iterdir()) == top


def test_class_effects_are_drawn_with_their_numbers_under_them(report: Report) -> None:
    page = report.page.read_text(encoding="utf-8")
    drawn = page.index('aria-label="Effect on every class')
    assert page.index("<h2>Classes") < drawn < page.index("Effects by class, shrunken")


def test_every_table_is_there_as_csv_and_as_markdown(report: Report) -> None:
    names = {p.stem for p in report.tables.iterdir()}
    assert {"sensitivity", "costs", "mechanism", "integrity", "classes_shrunken"} <= names
    text = report.markdown.read_text(encoding="utf-8")
    headings = {line[3:].replace(" ", "_") for line in text.splitlines() if line[:3] == "## "}
    assert headings == names
    table = pd.read_csv(report.tables / "sensitivity.csv")
    assert list(table.columns) == ["group", "method", "effect (pp)", "95%", "p"]
    assert {len(line.split(" | ")) for line in text.split("## sensitivity")[1].split("##")[0]
            .strip().splitlines()[2:3]} == {4}  # fmt: skip


def test_sections_stand_in_the_order_of_the_issue(report: Report) -> None:
    page = report.page.read_text(encoding="utf-8")
    names = re.findall(r"<h2>(.*?)</h2>", page)
    assert [n.partition(":")[0] for n in names] == [
        "Flow of units",
        "Primary outcome",
        "Sensitivity",
        "Reconstructions",
        "Leakage and robust accuracy",
        "Accuracy",
        "Classes",
        "Provenance",
    ]


def test_logging_stores_the_page_and_notes_one_look_for_the_same_data(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    uri, name = writer.campaign(make_protocol("logged"), seed=4)
    first = conclude(uri, name, tmp_path / "a").page.read_bytes()
    record = load_record(uri, name)
    look = json.loads(record.tags["look/0001"])
    assert (look["finished"], look["analysed"]) == (24, 24)
    paths = [f.path for f in writer.client.list_artifacts(record.parent_run, "report")]
    assert "report/report.html" in paths
    assert "report/tables" in paths
    assert conclude(uri, name, tmp_path / "b").page.read_bytes() == first
    assert load_record(uri, name).tags == record.tags
    conclude(uri, name, tmp_path / "c", log=False)


def test_looks_are_kept_however_many_there_are(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    """MLflow cuts off a tag at 8000 characters, which one tag for all looks passes after 160."""
    uri, name = writer.campaign(make_protocol("often"))
    run = load_record(uri, name).parent_run
    numbers = [*range(1, 200), 10_000]
    tags = [
        RunTag(
            schema.look_tag(number), json.dumps({"finished": 9, "analysed": 9, "p": number / 1e6})
        )
        for number in numbers
    ]
    writer.client.log_batch(run, tags=tags[:100])  # MLflow takes no more at once
    writer.client.log_batch(run, tags=tags[100:])
    page = conclude(uri, name, tmp_path).page.read_text(encoding="utf-8")
    assert page.count(" units finished, ") == 201
    assert list(recorded_looks(load_record(uri, name))) == [*numbers, 10_001]


def test_a_look_at_one_unit_says_unit(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    campaign = writer.campaign(make_protocol("one"), pending=tuple(range(1, 24)))
    page = conclude(*campaign, tmp_path).page.read_text(encoding="utf-8")
    assert "<li>1 unit finished, 1 analysed" in page
    assert "24 units randomised</b>in 2 blocks" in page


def test_the_look_is_noted_before_the_page_is_written(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two leaves a look without a page, never a page without its look."""

    def killed(*words: Any) -> None:
        raise KeyboardInterrupt

    uri, name = writer.campaign(make_protocol("killed"))
    monkeypatch.setattr("analysis.report.files.write", killed)
    with pytest.raises(KeyboardInterrupt):
        conclude(uri, name, tmp_path)
    assert list(recorded_looks(load_record(uri, name))) == [1]


def test_a_record_that_takes_no_look_gives_no_page(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, name = writer.campaign(make_protocol("read-only"))
    original = Path(uri.removeprefix("sqlite:///"))
    database = original.with_name("read-only.db")  # beside the artifacts
    shutil.copy(original, database)
    with closing(sqlite3.connect(database)) as connection, connection:
        rule = "SELECT 1 FROM sqlite_master WHERE nowhere()"
        refuse = f"CREATE TRIGGER refuse BEFORE INSERT ON tags BEGIN {rule}; END"
        connection.execute(refuse)  # an OperationalError, as of a file that may not be written
    words = [name, "--tracking-uri", f"sqlite:///{database}", "--out", str(tmp_path / "report")]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "the record is read-only; make it writable, or leave it unchanged with" in shown.err
    assert f"`python -m analysis read-only --tracking-uri sqlite:///{database} --no-log`" in (
        shown.err
    )
    assert not (tmp_path / "report").exists()
    assert main([*words, "--no-log"]) == 0
    assert (tmp_path / "report" / "report.html").exists()


def test_a_look_that_was_altered_is_said(writer: Any, make_protocol: MakeProtocol) -> None:
    uri, name = writer.campaign(make_protocol("half-a-look"), pending=tuple(range(24)))
    writer.client.set_tag(load_record(uri, name).parent_run, "look/0001", '{"finished": 3')
    with pytest.raises(ValueError, match="look/0001 of run .* is not a look.*record was altered"):
        recorded_looks(load_record(uri, name))


def test_a_record_that_was_made_again_says_that_looks_are_missing(
    record: Record, report: Report, tmp_path: Path
) -> None:
    words = "The record was lost and was recreated on 2026-11-24 from the campaign&#39;s folder;"
    assert words[:26] not in report.page.read_text(encoding="utf-8")
    again = {**record.tags, schema.REGISTERED_AGAIN: "1795564799"}
    page = write_report(replace(record, tags=again), tmp_path).page.read_text(encoding="utf-8")
    assert page.count(words) == 1
    with pytest.raises(ValueError, match="registered_again of run .* is not a time: 'soon'"):
        lost_looks(replace(record, tags={**again, schema.REGISTERED_AGAIN: "soon"}))


def test_an_interim_report_decides_nothing_unless_the_look_was_planned(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    blocks = {f"b{i}": {} for i in range(4)}
    looks = {"blocks": [2, 4], "spending": "pocock"}
    second_half = tuple(range(24, 48))
    planned = writer.campaign(
        make_protocol("planned", blocks=blocks, looks=looks), pending=second_half
    )
    verdict, page = page_of(planned, tmp_path / "planned")
    assert verdict.startswith("Interim, 24 of 48 units pending: over 16 training runs, AttAcc@1")
    assert "pp lower in treatment than in control" in verdict
    assert "this look" in page
    for key, options in (("unplanned", {}), ("between", {"looks": looks})):
        protocol = make_protocol(key, blocks=blocks, **options)
        pending = second_half if key == "unplanned" else second_half[5:]
        verdict, page = page_of(writer.campaign(protocol, pending=pending), tmp_path / key)
        assert "so nothing is decided yet" in verdict
        assert "pp lower in" not in verdict


def test_declared_margins_doses_and_matching_are_reported(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    arms = {
        "control": {"defense": "none"},
        "treatment": {"defense": "anti_adversarial", "weight": 2.0},
        "placebo": {"defense": "decoy_noise", "weight": 2.0},
        "placebo_weak": {"defense": "decoy_noise", "weight": 1.0},
    }
    protocol = make_protocol(
        "declared",
        arms,
        margins={"clean_acc": 0.02},
        doses={"control": 0.0, "placebo_weak": 1.0, "placebo": 2.0},
        families={"decoys": ["treatment", "placebo", "placebo_weak"]},
    )
    _, page = page_of(writer.campaign(protocol, seed=6), tmp_path)
    text = " ".join(" ".join(parse(page).words).split())
    assert "That treatment loses less than 2.0 pp in clean accuracy was not shown" in text
    assert "Dose and response" in text
    assert "against the line of placebo, placebo_weak" in text
    assert "this comparison is not randomised" in text
    assert "decoys: n = 24 of 3 defenses" in text


def test_failed_units_bring_their_bounds(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    _, page = page_of(writer.campaign(make_protocol("lossy"), failed=(1, 5)), tmp_path)
    text = " ".join(" ".join(parse(page).words).split())
    assert "worst case (Manski)" in text or "Failed: " in text
    assert "2 of 24 units failed" in text


def test_csvs_hold_every_unit_class_and_comparison(report: Report) -> None:
    units, classes, effects = (
        pd.read_csv(p) for p in (report.units, report.classes, report.effects)
    )
    assert list(units.columns[:3]) == list(schema.ALLOCATION_COLUMNS)
    assert (len(units), len(classes)) == (24, 24 * 2 * 6)
    assert len(effects) == 2 * (2 * len(schema.INVERSION_OUTCOMES) + 2 + 4)
    assert list(effects["role"]).count("primary") == 1
    assert effects["exact_p"].between(0, 1).all()


def test_verdict_states_the_estimates_in_two_sentences(report: Report) -> None:
    assert sentences(report.verdict) == 2
    effect = pd.read_csv(report.effects).query("role == 'primary'").iloc[0]
    assert f"{abs(effect['estimate']):.1f} pp lower in treatment than in control" in report.verdict
    assert "exact p = 0.00041" in report.verdict
    assert "placebo" in report.verdict


def test_every_analysed_unit_is_a_point_in_the_primary_figure(report: Report) -> None:
    page = report.page.read_text(encoding="utf-8")
    figure = page[page.index("<figure>") : page.index("</figure>")]
    points = re.findall(r"<use ", figure)
    means, ticks = 3, len(re.findall(r'id="[^"]*xtick_\d+"', figure))
    assert len(points) - means - ticks == 24


def test_figures_scale_and_take_the_pages_ink(report: Report) -> None:
    page = report.page.read_text(encoding="utf-8")
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 5
    for svg in figures:
        head = svg[: svg.index(">")]
        assert "viewBox" in head
        assert "width=" not in head
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert "<text" in svg


def test_reconstructions_are_chosen_by_the_stated_rule(record: Record) -> None:
    chosen = strips(record, analyse(record))
    first_block = record.allocation["block"].iloc[0]
    for strip in chosen:
        units = record.units
        mine = units[(units["arm"] == strip.arm) & (units["block"] == first_block)]
        assert strip.unit_id == mine["unit_id"].min()
        assert [name for name, _ in strip.cells] == [str(c) for c in range(6)]


def test_page_says_the_hashes_and_the_protocol(report: Report, record: Record) -> None:
    page = report.page.read_text(encoding="utf-8")
    assert record.tags["protocol_sha256"] in page
    assert record.tags["allocation_sha256"] in page
    assert all(a["sha256"] in page for a in record.assets)
    assert "units_per_arm" in page


def test_interim_campaign_says_so_and_counts_its_units(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    campaign = writer.campaign(make_protocol("interim"), failed=(3,), pending=(21, 22, 23))
    verdict, page = page_of(campaign, tmp_path)
    assert verdict.startswith("Interim, 3 of 24 units pending: ")
    assert sentences(verdict) == 2
    assert "Interim report" in page
    assert "out of memory" in page
    parse(page)


def test_campaign_without_finished_units_has_a_report(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    verdict, page = page_of(
        writer.campaign(make_protocol("started"), pending=tuple(range(24))), tmp_path
    )
    assert "not estimable" in verdict
    assert "<svg" not in page
    assert sentences(verdict) == 2


def test_one_finished_unit_an_arm_is_not_estimable(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    arms = {"control": {"defense": "none"}, "treatment": {"defense": "anti_adversarial"}}
    protocol = make_protocol("single", arms, units_per_arm=1, blocks={"split-10": {}})
    verdict, page = page_of(writer.campaign(protocol), tmp_path)
    assert "has 1 finished unit, a comparison needs 2 or more" in verdict
    assert "No contrast named mechanism compares treatment with a second" in page


def test_a_design_too_small_to_show_anything_says_so(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    arms = {"control": {"defense": "none"}, "treatment": {"defense": "anti_adversarial"}}
    verdict, page = page_of(writer.campaign(make_protocol("tiny", arms, units_per_arm=1)), tmp_path)
    assert "this design cannot give p below 0.50" in verdict
    assert "unbounded" in page


def test_trained_alike_arms_are_reported_as_an_aa_check(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    arms = {"control_a": {"defense": "none"}, "control_b": {"defense": "none"}}
    contrasts = {"primary": {"arm": "control_a", "against": "control_b"}}
    protocol = make_protocol("orl-aa", arms, contrasts=contrasts)
    verdict, page = page_of(writer.campaign(protocol, seed=5), tmp_path)
    assert verdict.startswith("This is an A/A check of 16 training runs")
    assert sentences(verdict) == 2
    assert "non-robust features" not in page
    assert "A/A check" in page


def test_no_effect_is_not_shown_rather_than_absent(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    arms = {
        "control": {"defense": "none"},
        "treatment": {"defense": "none", "weight": 1},
        "placebo": {"defense": "decoy_noise"},
    }
    verdict, page = page_of(writer.campaign(make_protocol("null", arms), seed=3), tmp_path)
    assert (
        "an effect of treatment against control on AttAcc@1 (standard inversion) was not shown"
        in verdict
    )
    assert "it is not claimed because the primary contrast" in verdict
    assert "does not explain all of the effect" not in page


def test_an_outcome_at_the_bound_drops_the_beta_regression_and_says_why(
    record: Record, tmp_path: Path
) -> None:
    units = record.units.copy()
    row = units.index[units["arm"] == "control"][0]
    units.loc[row, "standard/att_acc_1"] = 1.0
    report = write_report(replace(record, units=units), tmp_path)
    page = report.page.read_text(encoding="utf-8")
    assert f"undefined at 0 and 1: standard/att_acc_1 of {units['unit_id'][row]}" in page
    assert "exact p" in report.verdict


def test_sampled_allocations_are_said_to_be_sampled(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.inference.reallocation.ENUMERATION_LIMIT", 10)
    monkeypatch.setattr("analysis.inference.reallocation.DRAWS", 999)
    report = write_report(record, tmp_path)
    assert "randomisation p" in report.verdict
    assert "4,900, sampled" in report.page.read_text(encoding="utf-8")


def test_command_line_prints_verdict_and_page(finished: Campaign, tmp_path: Path) -> None:
    uri, name = finished
    command = [sys.executable, "-m", "analysis", name, "--tracking-uri", uri]
    done = subprocess.run([*command, "--out", tmp_path / "out"], capture_output=True, text=True)
    verdict, page = done.stdout.strip().split("\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert verdict.startswith("Over 16 training runs")
    assert Path(page).is_file()


def test_command_line_errors_are_one_line_and_code_2(
    finished: Campaign, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["no-such-campaign", "--tracking-uri", finished[0]]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("error: no campaign 'no-such-campaign'")


def test_what_cannot_be_reached_or_written_is_one_line(
    finished: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, name = finished
    (tmp_path / "file").touch()
    for words in (
        [name, "--tracking-uri", uri, "--no-log", "--out", str(tmp_path / "file")],
        [name, "--tracking-uri", "postgresql+nothing://u@127.0.0.1:1/x"],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("error: ")
