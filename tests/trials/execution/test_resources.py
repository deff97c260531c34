"""What units need and how many fit, counted by hand."""

import pytest

from trials.execution import ray_cluster, resources
from trials.execution.ray_cluster import wait_for_room
from trials.execution.resources import (
    Resources,
    missing_resources,
    resources_by_block,
    resources_of,
    room_for,
    units_at_a_time,
)

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
    assert room_for(Resources(amounts=resources, processes=processes), nodes) == room


def test_a_unit_of_one_process_shares_a_gpu_where_there_is_one(tiny_protocol):
    protocol = tiny_protocol()
    assert resources_of(protocol, "split-0", 0).amounts == {"CPU": 1.0}
    assert resources_of(protocol, "split-0", 1).amounts == {"CPU": 1.0, "GPU": 0.25}


def test_workers_take_whole_gpus_if_there_are_enough_else_cpus(tiny_protocol):
    protocol = tiny_protocol(workers=2)
    assert resources_of(protocol, "split-0", 2) == Resources(amounts={"GPU": 1.0}, processes=2)
    assert resources_of(protocol, "split-0", 1) == Resources(amounts={"CPU": 1.0}, processes=2)


def test_only_units_of_a_block_that_names_a_node_need_its_resource(tiny_protocol):
    blocks = {"here": {"split": 0}, "there": {"split": 1, "node": "big"}}
    protocol = tiny_protocol(blocks=blocks)
    assert "big" in resources_by_block(protocol, LAPTOP)["there"].amounts
    assert "big" not in resources_by_block(protocol, LAPTOP)["here"].amounts
    assert missing_resources(protocol, LAPTOP) == [
        "a unit of there needs 1 CPU and 0.001 big, Ray has 8 CPU on 1 node"
    ]
    assert missing_resources(protocol, [*LAPTOP, {"CPU": 1.0, "big": 1.0}]) == []


def test_more_workers_than_there_are_devices_are_lacking(tiny_protocol):
    assert missing_resources(tiny_protocol(workers=2), [{"CPU": 1.0}]) == [
        f"a unit of split-{i} needs 2 processes with 1 CPU each, Ray has 1 CPU on 1 node"
        for i in (0, 1)
    ]


def test_a_cluster_is_given_more_units_than_fit_so_that_it_can_grow(tiny_protocol, monkeypatch):
    one = tiny_protocol()
    assert units_at_a_time(one, LAPTOP) == 8
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert units_at_a_time(one, LAPTOP) == resources.CLUSTER_QUEUE
    assert units_at_a_time(one, [{"CPU": 1000.0}]) == 1000
    assert units_at_a_time(tiny_protocol(workers=2), LAPTOP) == 4


def test_what_was_asked_of_a_cluster_is_given_back_when_it_has_come(tiny_protocol, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    asked, said = [], []
    nodes = iter([[{"CPU": 0.0}], [{"CPU": 0.0}], [{"CPU": 8.0, "GPU": 1.0}]])
    monkeypatch.setattr(ray_cluster, "alive_nodes", lambda ray: next(nodes))
    monkeypatch.setattr(ray_cluster, "request_nodes", asked.append)
    monkeypatch.setattr(ray_cluster.time, "sleep", lambda seconds: None)
    wait_for_room(None, tiny_protocol(), said.append)
    assert asked == [2 * [{"CPU": 1.0, "GPU": 0.25}], []]
    (words,) = said
    assert "waiting for the cluster: a unit of split-0 needs 1 CPU" in words


def test_a_machine_that_is_too_small_is_refused(tiny_protocol, monkeypatch):
    monkeypatch.setattr(ray_cluster, "alive_nodes", lambda ray: [{"CPU": 1.0}])
    with pytest.raises(ValueError, match="lower `workers`"):
        wait_for_room(None, tiny_protocol(workers=2), print)
