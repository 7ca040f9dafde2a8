"""pure: ids name a service, a slot and an incarnation, and none comes twice."""

from __future__ import annotations

import pytest

from gateway.launchers.ids import WorkerId, fresh_ids, parse_id
from gateway.launchers.launcher import Launched, LaunchState

NOW = 1_795_278_459.123
RUNNING, PENDING, GONE = (
    Launched(each) for each in (LaunchState.RUNNING, LaunchState.PENDING, LaunchState.GONE)
)


def test_an_id_is_read_as_it_is_written():
    id = WorkerId("shop-eu", 3, 1795278459123)
    assert str(id) == "shop-eu-3.1795278459123"
    assert id.name == "shop-eu-3"
    assert parse_id(str(id)) == id


@pytest.mark.parametrize(
    "text", ["", "pipeline", "pipeline-3", "pipeline.3", "-3.4", "pipeline-x.4", "pipeline-٣.4"]
)
def test_what_is_no_id_of_ours_is_none(text):
    assert parse_id(text) is None


def test_the_first_workers_have_the_first_slots():
    assert [str(each) for each in fresh_ids(2, "pipeline", {}, NOW)] == [
        "pipeline-0.1795278459123",
        "pipeline-1.1795278459123",
    ]


def test_a_slot_is_taken_while_its_worker_is_ordered_and_free_when_it_is_gone():
    known = {
        "pipeline-0.7": RUNNING,
        "pipeline-1.7": GONE,
        "pipeline-2.7": PENDING,
        "shop-3.7": RUNNING,
        "x": RUNNING,
    }
    assert [each.slot for each in fresh_ids(3, "pipeline", known, NOW)] == [1, 3, 4]


def test_an_incarnation_is_after_all_that_are_known_though_the_clock_went_back():
    known = {"pipeline-0.1795278459124": GONE}
    assert [each.incarnation for each in fresh_ids(1, "pipeline", known, NOW)] == [1795278459125]
