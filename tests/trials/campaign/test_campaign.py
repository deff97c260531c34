"""Folder of a campaign: what creating it writes and refuses, and what is read back."""

import json
import re
from pathlib import Path

import pytest

from analysis import schema
from atat_ray.utils.json_files import write_signed
from trials import allocation
from trials.campaign.campaign import Campaign
from trials.campaign.layout import local_uri
from trials.campaign.notes import write_note
from trials.config.settings import changed_keys

VERSION = f'"record_version": "{schema.RECORD_VERSION}"'


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def campaign(tiny_protocol, tmp_path):
    return Campaign.create_or_resume(tiny_protocol(), tmp_path / "tiny", None)


def test_creating_writes_only_protocol_and_allocation(campaign, tiny_protocol):
    assert {path.name for path in files(campaign.folder)} == {"campaign.json", "allocation.csv"}
    drawn = allocation.draw(tiny_protocol(), "7")
    assert campaign.table == drawn
    assert (campaign.folder / "allocation.csv").read_text() == allocation.to_csv(drawn)


def test_creating_again_gives_the_same_campaign(campaign, tiny_protocol):
    before = files(campaign.folder)
    assert Campaign.create_or_resume(tiny_protocol(), campaign.folder, None) == campaign
    assert Campaign.load(campaign.folder) == campaign
    assert files(campaign.folder) == before


def test_the_nonce_is_the_seed_or_a_secret(campaign, tiny_protocol, tmp_path):
    assert campaign.nonce == "7"
    secrets = [
        Campaign.create_or_resume(tiny_protocol(nonce="secret"), tmp_path / name, None)
        for name in "ab"
    ]
    for secret in secrets:
        assert re.fullmatch("[0-9a-f]{64}", secret.nonce)
        assert (
            Campaign.create_or_resume(tiny_protocol(nonce="secret"), secret.folder, None) == secret
        )
    assert secrets[0].nonce != secrets[1].nonce


def test_an_interrupted_creation_is_completed(campaign, tiny_protocol):
    """The campaign file is written first; a missing table is drawn again."""
    before = files(campaign.folder)
    (campaign.folder / "allocation.csv").unlink()
    assert Campaign.create_or_resume(tiny_protocol(), campaign.folder, None) == campaign
    assert files(campaign.folder) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.01}, "alpha from 0.05 to 0.01"),
        ({"seed": 8}, "seed from 7 to 8"),
        ({"blocks": {"split-0": {"split": 0}, "split-1": {"split": 2}}},
         "blocks.split-1.split from 1 to 2"),
        ({"robustness": {"attacks": "apgd-10", "epsilons": [0.02]}},
         "robustness.epsilons from [0.01] to [0.02]"),
    ],
)  # fmt: skip
def test_another_protocol_is_refused_with_both_values(campaign, tiny_protocol, changes, message):
    write_note(campaign.unit_folder(campaign.table[0].unit_id), "start", {"order": 1})
    before = files(campaign.folder)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Campaign.create_or_resume(tiny_protocol(**changes), campaign.folder, None)
    assert len(str(caught.value).splitlines()) == 1
    assert files(campaign.folder) == before


def test_changed_keys_include_added_and_removed_keys():
    old, new = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "e": 4}}
    assert changed_keys(old, new) == ["b.d from 3 to None", "b.e from None to 4"]
    assert changed_keys(old, old) == []


def test_keys_in_another_order_are_the_same_protocol(campaign, content, tiny_protocol):
    arms = dict(reversed(content["arms"].items()))
    assert Campaign.create_or_resume(tiny_protocol(arms=arms), campaign.folder, None) == campaign


def test_another_address_of_the_record_is_refused(campaign, tiny_protocol):
    with pytest.raises(ValueError, match=r"kept at sqlite:.*, got http://elsewhere"):
        Campaign.create_or_resume(tiny_protocol(), campaign.folder, "http://elsewhere")
    assert (
        Campaign.create_or_resume(tiny_protocol(), campaign.folder, local_uri(campaign.folder))
        == campaign
    )


def test_the_address_of_a_server_is_stored(tiny_protocol, tmp_path):
    Campaign.create_or_resume(tiny_protocol(), tmp_path / "tiny", "http://server:5000")
    assert Campaign.load(tmp_path / "tiny").tracking_uri == "http://server:5000"


def test_the_record_in_the_folder_moves_with_it(campaign, tmp_path):
    moved = campaign.folder.rename(tmp_path / "moved")
    assert Campaign.load(moved).tracking_uri == f"sqlite:///{moved}/mlflow.db"


def test_a_folder_name_that_no_database_address_can_hold_is_refused(tiny_protocol, tmp_path):
    with pytest.raises(
        ValueError, match=r"what\?: its address would end at the '\?'; choose another"
    ):
        Campaign.create_or_resume(tiny_protocol(), tmp_path / "what?", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",control\n", ",treatment\n", "unit split-0-0[12]: recorded treatment in split-0, drawn"),
        ("split-1-02,", "split-1-03,", "unit split-1-02 is missing"),
    ],
)
def test_a_tampered_allocation_is_refused(campaign, tiny_protocol, old, new, message):
    edit(campaign.folder / "allocation.csv", old, new)
    refusal = f"allocation.csv is not what the protocol draws: {message}"
    with pytest.raises(ValueError, match=refusal):
        Campaign.create_or_resume(tiny_protocol(), campaign.folder, None)


def test_a_folder_with_other_files_is_refused(tiny_protocol, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / ".hidden").touch()
    (folder / "me.png").write_bytes(b"picture")
    with pytest.raises(ValueError, match="photos is not empty and holds no campaign.*--out"):
        Campaign.create_or_resume(tiny_protocol(), folder, None)
    assert [path.name for path in files(folder)] != []
    assert not (folder / "campaign.json").exists()
    (folder / "me.png").unlink()
    Campaign.create_or_resume(tiny_protocol(), folder, None)


def test_loading_a_missing_folder_says_how_to_start(tmp_path):
    with pytest.raises(ValueError, match=r"no campaign in .*nowhere .*`atat run PROTOCOL`.*--out"):
        Campaign.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("campaign.json", ""),
        ("campaign.json", "[1, 2]"),
        ("campaign.json", f'{{{VERSION}, "settings": {{}}, "nonce": "7", "tracking_uri": null}}'),
        ("campaign.json", f'{{{VERSION}, "nonce": "7"}}'),
        ("campaign.json", "[" * 100_000 + "]" * 100_000),
        ("campaign.json", f'{{{VERSION}, "settings": ' + '{"a": ' * 100_000),
        ("campaign.json", f'{{{VERSION}, "settings": ' + '{"a": [' * 400 + "]}" * 400 + "}"),
        ("campaign.json", f'{{{VERSION}, "settings": "x", "nonce": "7", "tracking_uri": null}}'),
        ("allocation.csv", '"' + "x" * 200_000),
        ("allocation.csv", ""),
        ("allocation.csv", "unit_id,block\nsplit-0-01,split-0\n"),
        ("allocation.csv", "unit_id,block,arm\nsplit-0-01,split-0,control,more\n"),
        ("allocation.csv", "unit_id,block,arm\nsplit-0-01\n"),
    ],
)
def test_an_unreadable_file_is_refused_in_one_line(campaign, name, text):
    (campaign.folder / name).write_text(text)
    with pytest.raises(ValueError, match="cannot be read") as caught:
        Campaign.load(campaign.folder)
    assert str(campaign.folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["campaign.json", "allocation.csv", "committed.json"])
def test_a_file_that_is_not_utf8_is_refused_in_one_line_that_names_it(campaign, name):
    (campaign.folder / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=f"{name} cannot be read: byte 0 is not UTF-8") as caught:
        Campaign.load(campaign.folder).check()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change", [{"tracking_uri": ...}, {"nonce": 7}, {"nonce": None}], ids=["no uri", "7", "null"]
)
def test_a_campaign_file_with_wrong_types_is_refused(campaign, change):
    path = campaign.folder / "campaign.json"
    content = json.loads(path.read_text()) | change
    content = {key: value for key, value in content.items() if value is not ...}
    path.write_text(json.dumps(content))
    (campaign.folder / "allocation.csv").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        Campaign.load(campaign.folder)


@pytest.mark.parametrize(("version", "shown"), [(None, "none"), ("0", "0"), ("2", "2")])
def test_a_folder_of_another_version_is_refused_with_both_versions(campaign, version, shown):
    path = campaign.folder / "campaign.json"
    content = json.loads(path.read_text())
    del content["record_version"]
    if version is not None:
        content["record_version"] = version
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"has record version {shown}, this program reads version"):
        Campaign.load(campaign.folder)


def test_a_unit_goes_from_pending_to_finished_or_failed(campaign, finish):
    first, second, *others = campaign.table
    assert {campaign.status(row) for row in campaign.table} == {schema.PENDING}
    finish(campaign, first)
    write_note(campaign.unit_folder(second.unit_id), "failed", {"reason": "ValueError: no"})
    assert campaign.status(first) == schema.FINISHED
    assert campaign.status(second) == schema.FAILED
    assert campaign.pending() == others


def test_retried_failures_are_pending_and_stay_noted(campaign, finish):
    first, second, *_ = campaign.table
    finish(campaign, first)
    for name in ("failed", "lost"):
        write_note(campaign.unit_folder(second.unit_id), name, {"reason": "", "reasons": ["", ""]})
    campaign.retry_failures()
    assert campaign.status(first) == schema.FINISHED
    assert campaign.status(second) == schema.PENDING
    assert campaign.note(second.unit_id, "lost") == {}
    assert campaign.failed_before(second.unit_id) == [{"reason": "", "reasons": ["", ""]}]
    assert (campaign.times_lost(first.unit_id), campaign.times_lost(second.unit_id)) == (0, 2)


def test_a_failure_counts_once_where_retrying_was_interrupted(campaign, monkeypatch):
    row = campaign.table[0]
    for name in ("failed", "lost"):
        write_note(campaign.unit_folder(row.unit_id), name, {"reason": "no", "reasons": ["gone"]})

    def interrupt(*words, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", interrupt)
        with pytest.raises(KeyboardInterrupt):
            campaign.retry_failures()
    campaign.retry_failures()
    assert campaign.status(row) == schema.PENDING
    assert len(campaign.failed_before(row.unit_id)) == 1
    assert campaign.times_lost(row.unit_id) == 1


def test_an_outcome_of_another_specification_does_not_count(campaign, finish, tiny_protocol):
    row = campaign.table[0]
    outcome = finish(campaign, row)
    path = campaign.unit_folder(row.unit_id) / "outcome.json"
    write_signed(path, outcome | {"specification": "another"})
    assert campaign.outcome(row) is None
    assert campaign.status(row) == schema.PENDING
    path.write_text('{"specification": ')
    assert campaign.status(row) == schema.PENDING


def test_a_unit_is_specified_only_by_its_block_and_arm(campaign):
    for row in campaign.table:
        spec = campaign.spec(row)
        assert (spec.unit_id, spec.seed_name) == (row.unit_id, row.unit_id)
        assert spec.defense == campaign.settings.arms[row.arm]
        assert spec.block == campaign.settings.block_spec(row.stratum)


def test_a_unit_of_a_matched_set_belongs_to_the_block_of_its_set(tiny_protocol, tmp_path):
    campaign = Campaign.create_or_resume(
        tiny_protocol(design="pairs", units_per_arm=2), tmp_path / "pairs", None
    )
    row = next(row for row in campaign.table if row.stratum == "split-1-set-02")
    spec = campaign.spec(row)
    assert spec.block.name == "split-1"
    assert spec.seed_name == "split-1-set-02"
