"""Reading a campaign: its tables, and the error message for each defect of a record."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import schema
from analysis.record import store
from analysis.record.errors import Unreachable
from analysis.record.reader import Record, load_record

Campaign = tuple[str, str]
MakeProtocol = Callable[..., dict[str, Any]]


def test_units_follow_the_allocation_row_by_row(record: Record) -> None:
    keys = list(schema.ALLOCATION_COLUMNS)
    pd.testing.assert_frame_equal(record.units[keys], record.allocation)
    assert len(record.units) == 24
    assert set(record.units["status"]) == {schema.FINISHED}
    assert sorted(record.units["start_order"]) == list(range(1, 25))


def test_outcomes_carry_their_schema_names_and_curves_stay_out(record: Record) -> None:
    columns = set(record.units.columns)
    for inversion in ("standard", "strong"):
        assert {schema.inversion_column(inversion, o) for o in schema.INVERSION_OUTCOMES} <= columns
    assert {schema.CLEAN_ACC, schema.TRAIN_ACC, schema.robust_column(0.0025)} <= columns
    assert not [c for c in columns if c.startswith(schema.EPOCH_PREFIX)]


def test_class_table_has_a_row_for_each_unit_inversion_and_class(record: Record) -> None:
    classes = record.classes
    assert list(classes.columns) == [*schema.ALLOCATION_COLUMNS, *schema.CLASS_COLUMNS]
    assert len(classes) == 24 * 2 * 6
    assert not classes.duplicated(["unit_id", "inversion", "class"]).any()


def test_pictures_are_png(record: Record) -> None:
    assert record.picture(record.units["unit_id"][0], "strong").startswith(b"\x89PNG")


def test_protocol_tags_and_assets_are_read(record: Record) -> None:
    assert record.protocol["outcome"] == "standard/att_acc_1"
    assert set(record.tags) == set(schema.CAMPAIGN_TAGS)
    assert {a["block"] for a in record.assets} == {"split-10", "split-11"}


def test_runs_are_paged_through(
    record: Record, finished: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PAGE", 5)
    pd.testing.assert_frame_equal(load_record(*finished).units, record.units)


def test_a_unit_whose_run_is_not_written_to_its_end_is_pending(
    writer: Any, make_protocol: MakeProtocol
) -> None:
    experiment, parent, allocation = writer.start(make_protocol("being-written"))
    row = allocation.to_dict("records")[0]
    run_id = writer.unit(experiment, parent, row, start_order="1")
    writer.client.update_run(run_id, status="RUNNING")
    assert load_record(writer.uri, "being-written").units["status"][0] == schema.PENDING


def test_assets_may_be_missing_before_they_are_made(
    writer: Any, make_protocol: MakeProtocol
) -> None:
    writer.start(make_protocol("no-assets"), with_assets=False)
    assert load_record(writer.uri, "no-assets").assets == []


def test_units_without_a_run_are_pending(writer: Any, make_protocol: MakeProtocol) -> None:
    record = load_record(*writer.campaign(make_protocol("unfinished"), failed=(1,), pending=(0, 5)))
    assert list(record.units["status"][:2]) == [schema.PENDING, schema.FAILED]
    assert record.units["reason"][1] == "out of memory"
    assert record.units["start_order"].isna().sum() == 2
    assert len(record.units) == 24


def test_a_campaign_without_any_run_loads(writer: Any, make_protocol: MakeProtocol) -> None:
    protocol = make_protocol("nothing-yet")
    writer.start(protocol)
    record = load_record(writer.uri, "nothing-yet")
    assert set(record.units["status"]) == {schema.PENDING}
    assert record.classes.empty


def test_unknown_campaign_lists_the_known_ones(finished: Campaign) -> None:
    with pytest.raises(ValueError, match="no campaign 'orl-rtc' at .* known: .*orl-rct"):
        load_record(finished[0], "orl-rtc")


def test_an_experiment_that_is_no_campaign_is_refused(writer: Any) -> None:
    writer.client.create_experiment("scratch")
    with pytest.raises(ValueError, match="exactly one run tagged atat.kind=campaign, found 0"):
        load_record(writer.uri, "scratch")


def test_a_second_run_of_a_unit_is_refused(writer: Any, make_protocol: MakeProtocol) -> None:
    experiment, parent, allocation = writer.start(make_protocol("twice"))
    row = allocation.to_dict("records")[0]
    first, second = (writer.unit(experiment, parent, row, status="failed") for _ in range(2))
    with pytest.raises(ValueError, match=f"unit '{row['unit_id']}' has two runs") as error:
        load_record(writer.uri, "twice")
    assert first in str(error.value)
    assert second in str(error.value)


def test_a_unit_outside_the_allocation_is_refused(writer: Any, make_protocol: MakeProtocol) -> None:
    experiment, parent, _ = writer.start(make_protocol("stranger"))
    row = {"unit_id": "split-99/00", "block": "split-99", "arm": "control"}
    writer.unit(experiment, parent, row)
    with pytest.raises(ValueError, match="'split-99/00', which is not in the allocation of 24"):
        load_record(writer.uri, "stranger")


def test_a_run_in_another_arm_than_allocated_is_refused(
    writer: Any, make_protocol: MakeProtocol
) -> None:
    experiment, parent, allocation = writer.start(make_protocol("crossed"))
    row = allocation.to_dict("records")[0]
    writer.unit(experiment, parent, {**row, "arm": "another"})
    with pytest.raises(ValueError, match="arm 'another'; the allocation says"):
        load_record(writer.uri, "crossed")


def test_an_unknown_status_is_refused(writer: Any, make_protocol: MakeProtocol) -> None:
    experiment, parent, allocation = writer.start(make_protocol("lost"))
    writer.unit(experiment, parent, allocation.to_dict("records")[0], status="lost")
    with pytest.raises(ValueError, match="status must be one of"):
        load_record(writer.uri, "lost")


@pytest.mark.parametrize("order", ["-1", "1.5", "\u0662", "9" * 30, "0x1f", "\x1b[2J"])
def test_a_start_order_that_is_no_number_is_refused(
    writer: Any, make_protocol: MakeProtocol, order: str
) -> None:
    name = f"order-{order.encode().hex()[:20]}"
    experiment, parent, allocation = writer.start(make_protocol(name))
    writer.unit(experiment, parent, allocation.to_dict("records")[0], start_order=order)
    with pytest.raises(ValueError, match="start_order of a unit must be a whole number") as error:
        load_record(writer.uri, name)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", [schema.ALLOCATION_FILE, schema.PROTOCOL_FILE])
def test_an_altered_record_is_refused(writer: Any, make_protocol: MakeProtocol, name: str) -> None:
    campaign = f"altered-{name.partition('.')[0]}"
    _, parent, _ = writer.start(make_protocol(campaign))
    writer.client.log_text(parent, "unit_id,block,arm\nsplit-10/00,split-10,control\n", name)
    with pytest.raises(ValueError, match=f"{name} is not the one that was registered"):
        load_record(writer.uri, campaign)


def test_a_record_that_was_copied_with_its_artifacts_is_refused(
    writer: Any, make_protocol: MakeProtocol, tmp_path: Path
) -> None:
    """Its artifacts would be read from the former folder, and the report logged there."""
    writer.start(make_protocol("copied"))
    shutil.copytree(writer.artifacts.parent, tmp_path, dirs_exist_ok=True)
    former = f"its artifacts in {writer.artifacts / 'copied'}; `atat verify copied --out "
    with pytest.raises(ValueError, match=f"was moved or copied, .* {former}.*` corrects that$"):
        load_record(f"sqlite:///{tmp_path}/mlflow.db", "copied")


def test_a_record_without_its_artifacts_is_refused_with_the_command_that_writes_them_again(
    writer: Any, make_protocol: MakeProtocol
) -> None:
    writer.start(make_protocol("left-behind"))
    shutil.rmtree(writer.artifacts / "left-behind")
    places = f"are missing: there is no {writer.artifacts / 'left-behind'}"
    with pytest.raises(ValueError, match=f"{places}.*; `atat resume left-behind --out .*again"):
        load_record(writer.uri, "left-behind")


@pytest.mark.parametrize("version", [None, "0", "2"])
def test_a_record_of_another_version_is_refused_in_one_line(
    writer: Any, make_protocol: MakeProtocol, version: str | None
) -> None:
    name = f"version-{version}"
    _, parent, _ = writer.start(make_protocol(name))
    if version is None:
        writer.client.delete_tag(parent, schema.RECORD_VERSION_TAG)
    else:
        writer.client.set_tag(parent, schema.RECORD_VERSION_TAG, version)
    with pytest.raises(ValueError, match="the record of campaign") as caught:
        load_record(writer.uri, name)
    assert str(caught.value) == (
        f"the record of campaign '{name}' has version {version or 'none'}, this program reads "
        f"version {schema.RECORD_VERSION}; run the campaign again with this program, or read the "
        "record with the program that made it"
    )


def test_an_unreachable_server_fails_within_seconds() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        uri = f"http://127.0.0.1:{held.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(Unreachable, match=f"{uri} does not answer.*or correct the address$"):
            load_record(uri, "orl-rct")
    assert time.monotonic() - start < 10
