"""What is wrong with a run is found before it starts."""

import shutil
from types import SimpleNamespace

import pytest

from trials.execution.preflight import check_data, check_folder

CODING = {"defense": "sparse_standard", "threshold": 0.3}


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({**CODING, "tau": 1.0}, r"tau 1 is too small for this dictionary.*set tau to \d"),
        ({"defense": "sca", "threshold": 0.1, "tau": 2.0}, "tau 2 is too small"),
        ({**CODING, "kernel": 6, "stride": 3}, "must divide the sides of the images, got 3 and 32"),
        ({**CODING, "kernel": 16, "stride": 16}, "sides are multiples of 4, got 2 x 2"),
        ({"defense": "rolss", "skips": [1, 0]}, "one factor for each of the 4 stages, got 2"),
        ({"defense": "tl_dmi", "frozen": 5}, "at most the 4 stages of the network, got 5"),
    ],
)
def test_a_defense_that_does_not_fit_the_network_is_refused_before_a_unit_starts(
    tiny_protocol, content, arm, message
):
    arms = {**content["arms"], "coded": arm}
    with pytest.raises(ValueError, match=f"^coded in split-0: .*{message}"):
        check_data(tiny_protocol(arms=arms))


def test_defenses_that_fit_their_networks_pass(tiny_protocol, content):
    arms = {**content["arms"], "coded": CODING, "cut": {"defense": "ssf", "factor": 0.2}}
    check_data(tiny_protocol(arms=arms))


def test_a_full_disk_is_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2**20))
    with pytest.raises(ValueError, match=r"1 MiB are free at .*, 256 are needed; free some space"):
        check_folder(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
