"""What units need and how many fit, counted by hand."""

import pytest

from trials.devices import Need, lacking, need_of, needs, room_for

LAPTOP = [{"CPU": 8.0, "memory": 1e9, "node:10.0.0.1": 1.0}]


@pytest.mark.parametrize(
    ("resources", "processes", "nodes", "room"),
    [
        ({"CPU": 1.0}, 1, [{"CPU": 8.0}], 8),
        ({"CPU": 1.0}, 3, [{"CPU": 8.0}], 2),
        ({"CPU": 1.0}, 2, [{"CPU": 1.0}, {"CPU": 1.0}], 1),  # processes may sit on two nodes
        ({"CPU": 1.0, "GPU": 0.25}, 1, [{"CPU": 8.0, "GPU": 1.0}], 4),
        ({"CPU": 1.0, "GPU": 0.25}, 1, [{"CPU": 3.0, "GPU": 1.0}], 3),
        ({"CPU": 1.0, "GPU": 0.25}, 1, [{"CPU": 64.0}, {"CPU": 1.0, "GPU": 2.0}], 1),
        ({"CPU": 1.0, "big": 0.001}, 1, [{"CPU": 8.0}, {"CPU": 2.0, "big": 1.0}], 2),
        ({"CPU": 1.0}, 1, [], 0),
    ],
)
def test_units_that_fit(resources, processes, nodes, room):
    assert room_for(Need(resources=resources, processes=processes), nodes) == room


def test_a_unit_of_one_process_shares_a_gpu_where_there_is_one(tiny_protocol):
    protocol = tiny_protocol()
    assert need_of(protocol, "split-0", 0).resources == {"CPU": 1.0}
    assert need_of(protocol, "split-0", 1).resources == {"CPU": 1.0, "GPU": 0.25}


def test_workers_take_whole_gpus_if_there_are_enough_else_cpus(tiny_protocol):
    protocol = tiny_protocol(workers=2)
    assert need_of(protocol, "split-0", 2) == Need(resources={"GPU": 1.0}, processes=2)
    assert need_of(protocol, "split-0", 1) == Need(resources={"CPU": 1.0}, processes=2)


def test_only_units_of_a_block_that_names_a_node_need_its_resource(tiny_protocol):
    blocks = {"here": {"split": 0}, "there": {"split": 1, "node": "big"}}
    protocol = tiny_protocol(blocks=blocks)
    assert "big" in needs(protocol, LAPTOP)["there"].resources
    assert "big" not in needs(protocol, LAPTOP)["here"].resources
    assert lacking(protocol, LAPTOP) == [
        "a unit of there needs 1 CPU and 0.001 big, Ray has 8 CPU on 1 nodes"
    ]
    assert lacking(protocol, [*LAPTOP, {"CPU": 1.0, "big": 1.0}]) == []


def test_more_workers_than_there_are_devices_are_lacking(tiny_protocol):
    assert lacking(tiny_protocol(workers=2), [{"CPU": 1.0}]) == [
        f"a unit of split-{i} needs 2 processes with 1 CPU each, Ray has 1 CPU on 1 nodes"
        for i in (0, 1)
    ]
