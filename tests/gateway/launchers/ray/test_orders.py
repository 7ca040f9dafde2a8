"""pure: how many workers fit on the nodes of a cluster, and orders as lines."""

import msgspec
import pytest

from gateway.launchers.launcher import WorkerSpec
from gateway.launchers.ray.orders import Needs, Order, Room, Start

SPEC = WorkerSpec(cpus=2, gpus=1, memory=1 << 30, resources={"big": 0.5})
NODE = {"CPU": 8.0, "GPU": 4.0, "memory": float(8 << 30), "big": 1.0, "node:10.0.0.1": 1.0}


def test_what_a_worker_needs_none_of_is_not_asked_for():
    assert Needs.of(WorkerSpec(cpus=0.5)).amounts == {"CPU": 0.5}


@pytest.mark.parametrize(
    ("nodes", "room"),
    [
        ([NODE], 2),
        ([NODE, NODE], 4),
        ([NODE | {"CPU": 3.9}], 1),
        ([NODE | {"GPU": 0.0}, NODE], 2),
        ([NODE | {"memory": float(1 << 30)}], 1),
        ([{"CPU": 100.0}], 0),
        ([], 0),
    ],
)
def test_a_worker_has_room_where_one_node_has_all_that_it_needs(nodes, room):
    assert Needs.of(SPEC).count_room(nodes) == room


def test_parts_of_cores_add_up_as_ray_counts_them():
    assert Needs.of(WorkerSpec(cpus=0.1)).count_room([{"CPU": 0.3}]) == 3
    assert Needs.of(WorkerSpec(cpus=0.1)).count_room([{"CPU": 0.2999}]) == 2


def test_whoever_needs_nothing_has_room_without_end():
    assert Needs.of(WorkerSpec(cpus=0)).count_room([NODE]) is None


@pytest.mark.parametrize(
    "order", [Start({"a-0.1": ("--threads", "1")}, {"A": "b\nc"}, Needs.of(SPEC)), Room(Needs.of(SPEC))]
)
def test_an_order_is_a_line_and_comes_out_as_it_went_in(order):
    line = msgspec.json.encode(Order(7, order))
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=Order) == Order(7, order)
