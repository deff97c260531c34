from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis import schema
from analysis.pipeline.primary import analyse
from analysis.record.json_text import DEEPEST, parse_json
from analysis.record.reader import Record, load_record
from analysis.record.store import Store
from analysis.report.interim_looks import recorded_looks
from analysis.report.page import render
from analysis.report.sweep import load_sweep
from analysis.secondary.context import analyse_secondary

DEEP = "[" * 100_000
NESTED = '{"a":' * 300 + "1" + "}" * 300  # json reads it, and cannot write it with an indent
OTHER = ["", "{", "null", "1", '"text"', "9" * 5000, DEEP, NESTED, "\x1b[2J\n"]


@pytest.mark.parametrize("kind", [dict, list])
@pytest.mark.parametrize("text", [*OTHER, b"\xff\xfe\xff", b"\x80"])
def test_a_text_that_is_not_what_a_record_holds_is_refused_in_one_short_line(
    kind: type, text: str | bytes
) -> None:
    with pytest.raises(ValueError, match="^it must be a JSON .* the record was altered") as error:
        parse_json(text, kind, "it")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


def test_objects_and_lists_are_read_up_to_the_deepest_level_and_not_for_each_other() -> None:
    assert parse_json(b'{"a": [1, "\xc3\xa9"]}', dict, "it") == {"a": [1, "\u00e9"]}
    assert parse_json("[{}]", list, "it") == [{}]
    parse_json("[" * DEEPEST + "]" * DEEPEST, list, "it")
    for text, kind in (
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), list),
        ("[]", dict),
        ("{}", list),
    ):
        with pytest.raises(ValueError, match="it must be a JSON"):
            parse_json(text, kind, "it")


@pytest.mark.parametrize("text", [*OTHER, "[1]"])
def test_a_report_of_an_altered_json_text_ends_in_one_line(
    record: Record, finished: tuple[str, str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    results = analyse(record)
    secondary = analyse_secondary(record, results)
    look = replace(record, tags=record.tags | {schema.look_tag(1): text})
    with pytest.raises(ValueError, match="look/0001 of run .* is not a look"):
        recorded_looks(look)
    if text:  # a record of an earlier commit has no versions
        with pytest.raises(ValueError, match="the tag versions must be a JSON object"):
            render(replace(record, tags=record.tags | {schema.VERSIONS: text}), results, secondary)

    def altered(self: Any, run_id: str, path: str, **options: Any) -> bytes:
        return text.encode() if path == schema.ASSETS_FILE else read(self, run_id, path, **options)

    read = Store.read_bytes
    monkeypatch.setattr(Store, "read_bytes", altered)
    with pytest.raises(ValueError, match="assets.json must .* the record was altered"):
        load_record(*finished)


def test_the_settings_of_a_sweep_are_read_like_other_json_texts(
    writer: Any,
) -> None:
    experiment = writer.client.create_experiment("deep", artifact_location=str(writer.artifacts))
    tags = {
        schema.KIND_TAG: schema.KIND_SWEEP,
        schema.RECORD_VERSION_TAG: schema.RECORD_VERSION,
        schema.RANDOMISED_TAG: schema.NOT_RANDOMISED,
    }
    run = writer.client.create_run(experiment, tags=tags).info.run_id
    writer.client.log_text(run, DEEP, schema.PROTOCOL_FILE)
    with pytest.raises(ValueError, match="protocol.json must be a JSON object"):
        load_sweep(writer.uri, "deep")
