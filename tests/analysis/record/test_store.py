"""Store of records: what it returns for names, runs and artifacts that are missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from analysis import schema
from analysis.record import Store, Unreachable

Campaign = tuple[str, str]


def test_importing_it_loads_neither_pandas_nor_mlflow() -> None:
    code = "import analysis.record, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "mlflow", "requests", "sqlalchemy"} & set(done.stdout.split())


def test_an_experiment_is_found_by_name_unless_it_was_deleted(writer: Any) -> None:
    experiment = writer.client.create_experiment("to-delete")
    store = Store(writer.uri)
    assert store.experiment("to-delete") == experiment
    assert "to-delete" in store.names()
    writer.client.delete_experiment(experiment)
    assert store.experiment("to-delete") is None
    assert store.experiment("never-made") is None
    assert "to-delete" not in store.names()


def test_artifacts_are_read_and_a_missing_one_is_named(
    writer: Any, make_protocol: Callable[..., dict[str, Any]]
) -> None:
    _, parent, allocation = writer.start(make_protocol("with-artifacts"))
    store = Store(writer.uri)
    assert store.has_artifact(parent, schema.ALLOCATION_FILE)
    assert store.read_text(parent, schema.ALLOCATION_FILE) == allocation.to_csv(index=False)
    place = store.client.get_run(parent).info.artifact_uri
    in_place = store.read_bytes(parent, schema.ALLOCATION_FILE, artifact_uri=place)
    assert in_place.decode() == allocation.to_csv(index=False)
    assert not store.has_artifact(parent, "absent.csv")
    with pytest.raises(Unreachable, match=f"run {parent} has no readable artifact 'absent.csv'"):
        store.read_bytes(parent, "absent.csv", artifact_uri=place)


def test_children_are_those_of_one_parent_and_kind(finished: Campaign) -> None:
    store = Store(finished[0])
    parent = store.parent(finished[1], schema.KIND_CAMPAIGN)
    experiment, run_id = parent.info.experiment_id, parent.info.run_id
    assert len(store.children(experiment, run_id, schema.KIND_UNIT)) == 24
    assert store.children(experiment, run_id, schema.KIND_POINT) == []
    assert store.children(experiment, "another", schema.KIND_UNIT) == []
