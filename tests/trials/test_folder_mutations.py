"""Mutated files of a campaign's folder end in a right result or one line, within bounds."""

import contextlib
import hashlib
import json
import random
import shutil
import sqlite3

import pytest
import torch
from bounded import read_all
from mutations import mutate_bytes, mutate_json, mutate_rows, replaced

from atat_ray.unit.computed_on import note_process
from atat_ray.utils.json_files import DIGEST, digest_of
from atat_ray.utils.stage_files import DIGEST_BYTES, save_stage
from trials.campaign.campaign import Campaign
from trials.campaign.inputs import register_inputs, settings_sources
from trials.campaign.notes import write_note
from trials.config.load import read_protocol
from trials.execution.recorder import Recorder

READERS = {
    ".stage": "folder_readers:read_stage_file",
    ".folder": "folder_readers:read_folder",
    ".db": "folder_readers:read_database",
}
NOTES = {
    "start": {"order": 1, "time": 1.5},
    "place": {"node": "n", "device": "cpu"},
    "lost": {"reasons": ["its process was killed"]},
    "failed-before": {"failures": [{"reason": "ValueError: no", "reasons": ["lost"]}]},
}
OTHERS = ("units/*/*.json", "allocation.csv", "committed.json", "inputs.json")


@pytest.fixture(scope="module")
def original(empty_database, finish, tmp_path_factory):
    """Return the folder of a recorded campaign, beside which mutated files are written."""
    return prepare(empty_database, finish, tmp_path_factory.mktemp("mutations"))


def prepare(empty_database, finish, root):
    """Make what is mutated in a folder: a recorded campaign of three units, and a stage file."""
    orl = read_protocol("orl-rct")
    name, block = next(iter(orl.blocks.items()))
    small = orl.model_copy(update={"name": "tiny", "units_per_arm": 1, "blocks": {name: block}})
    campaign = Campaign.create_or_resume(small, root / "original", None)
    register_inputs(campaign, settings_sources(small))
    for row in campaign.table:
        for note, content in NOTES.items():
            write_note(campaign.unit_folder(row.unit_id), note, content)
        note_process(campaign.unit_folder(row.unit_id), {"processor": "p", "threads": "1"})
        finish(campaign, row)
    for database in (root / "empty.db", campaign.folder / "mlflow.db"):
        shutil.copy(empty_database, database)
    recorder = Recorder(campaign, print)
    recorder.open_or_postpone()
    recorder.catch_up()
    recorder.close()
    with contextlib.closing(sqlite3.connect(campaign.folder / "mlflow.db")) as connection:
        connection.execute("PRAGMA page_size = 1024")  # a quarter of the bytes to copy
        connection.execute("VACUUM")
    payload = {"state": {"w": torch.arange(40.0)}, "curves": [{"loss": 0.5}], "seconds": 1.5}
    save_stage(root / "original.stage", "abc", payload)
    return campaign.folder


def write_stages(folder, count):
    """Write mutated stage files, half of them with the hash of their mutated content."""
    content, draw, paths = (folder / "original.stage").read_bytes(), random.Random("stage"), []
    for number in range(count):
        mutated = mutate_bytes(content, draw)
        if number % 2:
            archive = mutate_bytes(content[:-DIGEST_BYTES], draw)
            mutated = archive + hashlib.sha256(archive).digest()
        paths.append(folder / f"{number}{'.signed' * (number % 2)}.stage")
        paths[-1].write_bytes(mutated)
    return paths


def mutated_json(content, draw):
    """Mutate a JSON text: its bytes, a value, or a value with the hash of the mutated content."""
    way = draw.randrange(3)
    if way == 0:
        return mutate_bytes(content, draw)
    changed = mutate_json(content, draw)
    found = json.loads(changed)
    if way == 1 or not isinstance(found, dict) or DIGEST not in json.loads(content):
        return changed
    plain = {key: value for key, value in found.items() if key != DIGEST}
    return json.dumps({**plain, DIGEST: digest_of(plain)}).encode()


def write_folders(original, count, kinds=("campaign.json", *OTHERS)):
    """Write ``count`` folders with mutations of one kind of file, the kinds in turn.

    Of the files of the units, several are mutated at once.
    """
    draw, cases = random.Random("folder"), []
    for number in range(count):
        cases.append(original.parent / f"{number}.folder")
        files = sorted(original.glob(kinds[number % len(kinds)]))
        for source in draw.sample(files, min(len(files), 12)):
            mutate = mutated_json if source.suffix == ".json" else mutate_bytes
            copy = cases[-1] / source.relative_to(original)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(mutate(source.read_bytes(), draw))
    return cases


def write_databases(original, count):
    """Write mutated databases: the bytes of half of them, the cells of the others."""
    draw, paths = random.Random("database"), []
    for number in range(count):
        paths.append(original.parent / f"{number}.db")
        content = (original / "mlflow.db").read_bytes()
        if number % 2:
            start = draw.choice([draw.randrange(200), draw.randrange(len(content))])
            paths[-1].write_bytes(replaced(content, start, draw))
        else:
            paths[-1].write_bytes(content)
            mutate_rows(paths[-1], draw)
    return paths


def check(paths):
    """Read the cases, and fail if nearly all were read as if nothing had happened."""
    outcomes = read_all(READERS, paths)
    assert sum(said is None for said in outcomes) < 0.9 * len(outcomes)


def test_mutated_files_of_a_folder_end_in_a_right_result_or_one_line(original):
    stages = write_stages(original.parent, 100)
    check([*stages, *write_folders(original, 10), *write_databases(original, 4)])


@pytest.mark.slow
def test_2000_mutations_of_stage_files_end_in_a_right_result_or_one_line(original):
    check(write_stages(original.parent, 2000))


@pytest.mark.slow
def test_2000_mutations_of_campaign_files_end_in_a_right_result_or_one_line(original):
    check(write_folders(original, 2000, ["campaign.json"]))


@pytest.mark.slow
def test_2000_mutations_of_other_files_end_in_a_right_result_or_one_line(original):
    check(write_folders(original, 2000, OTHERS))


@pytest.mark.slow
def test_2000_mutations_of_the_database_end_in_a_right_result_or_one_line(original):
    check(write_databases(original, 2000))
