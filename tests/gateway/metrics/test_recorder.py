"""Pure and collaboration: what became of requests, counted once each, whichever way they ended."""

from __future__ import annotations

import pytest
import trio

from common.errors import InvalidRequest, PipelineError, QueueFull, RequestCancelled
from common.tensor import vector_spec
from common.wire import Call, PartAnswer
from gateway.metrics.recorder import RETIRED, SHADOW, Histogram, Recorder
from gateway.scheduling.requests import Answer, ModelKey, Provenance, Request
from tests.gateway.site import open_site

KEY = ModelKey("default", "1")


def codes(recorder: Recorder) -> dict[str, int]:
    """How often each code was given, of all series together."""
    return {code: count for code, count in recorder.codes().items() if count}


def timed(recorder: Recorder) -> int:
    """How many requests have a duration."""
    return sum(sum(series.duration.counts) for series in recorder.series.values())


# --- pure


def test_a_value_is_counted_under_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.add(value)
    histogram.add(2.5, 2)
    assert histogram.counts == [2, 2, 3]
    assert histogram.sum == 13.0


def test_requests_are_counted_apart_by_door_version_and_arm() -> None:
    recorder = Recorder()
    recorder.of("rest", KEY).answered(0.5)
    recorder.of("v2", KEY).answered(0.5)
    recorder.of("rest", KEY, "1").failed("deadline", 2.0)
    assert recorder.of("rest", KEY).codes == {"ok": 1}
    assert recorder.of("rest", KEY, "1").codes == {"ok": 0, "deadline": 1}
    assert codes(recorder) == {"ok": 2, "deadline": 1}
    assert timed(recorder) == 3


def test_what_was_refused_has_no_duration() -> None:
    recorder = Recorder()
    recorder.is_model = lambda name: name == "m"
    recorder.refused("rest", "m", QueueFull("Server is busy"))
    assert recorder.of("rest", ModelKey("m", "")).codes == {"ok": 0, "queue_full": 1}
    assert timed(recorder) == 0


def test_names_that_clients_make_up_make_no_series() -> None:
    recorder = Recorder()
    for n in range(1000):
        recorder.refused("rest", f"nobody{n}", InvalidRequest("no"))
    assert list(recorder.series) == [("rest", ModelKey("", ""), "")]
    assert codes(recorder) == {"bad_request": 1000}


def test_what_shadows_do_is_no_clients_request() -> None:
    recorder = Recorder()
    recorder.of(SHADOW, KEY, "2").answered(1.0)
    assert codes(recorder) == {}


def test_of_versions_that_went_long_ago_the_sums_are_kept_and_no_more() -> None:
    recorder = Recorder()
    for n in range(1, RETIRED + 4):
        key = ModelKey("m", str(n))
        recorder.of("rest", key).answered(1.0)
        recorder.of("rest", key, "arm").failed("deadline", 1.0)
        recorder.work_of(key).batch_rows.add(n)
    recorder.fold(lambda key: key.version == "1")
    together = ModelKey("m", "")
    assert set(recorder.work) == {together, *(ModelKey("m", str(n)) for n in [1, *range(4, RETIRED + 4)])}
    assert recorder.of("rest", together).codes == {"ok": 2, "deadline": 2}
    assert recorder.work_of(together).batch_rows.sum == 2 + 3
    assert codes(recorder) == {"ok": RETIRED + 3, "deadline": RETIRED + 3}
    recorder.fold(lambda key: key.version == "1")
    assert recorder.of("rest", together).codes == {"ok": 2, "deadline": 2}


def test_a_batch_is_split_into_its_phases() -> None:
    recorder = Recorder()
    request = Request(KEY, vector_spec(1), (b"",), 1, admitted=0, deadline=9, route=None, reply=print)
    by = Provenance("w", "1", batch=0.25, link=0.125, infer=2.0)
    answers: list[Answer | PipelineError] = [Answer((), (), False, 0.5, by)] * 2
    failed = InvalidRequest("no")
    replies = [(request, answer) for answer in [*answers, failed]]
    recorder.flew(KEY, replies, [PartAnswer((), [], b"", [Call(3, 0, 0, 0), Call(40, 0, 0, 0)])], by)
    work = recorder.work[KEY]
    sums = [phase.sum for phase in (work.queue, work.batch, work.link, work.infer)]
    assert sums == [1.0, 0.5, 0.25, 4.0]
    assert [sum(phase.counts) for phase in (work.queue, work.batch, work.link, work.infer)] == [2] * 4
    assert (sum(work.batch_rows.counts), work.batch_rows.sum) == (2, 43)


# --- as requests end


@pytest.mark.usefixtures("virtual_time")
async def test_every_end_of_a_request_is_counted_once() -> None:
    async with open_site(queue_max=1) as site:
        worker = await site.ready_worker(slots=1)
        await site.set_weights(b"2")
        assert await site.predict(1.0) == 2.0
        assert codes(site.recorder) == {"ok": 1}

        worker.hold()
        late = site.ask(1.0, seconds=1.0)
        await trio.testing.wait_all_tasks_blocked()
        gone = site.ask(1.0)
        with pytest.raises(QueueFull):
            site.ask(1.0)
        site.predictions.cancel(gone.request)
        site.predictions.cancel(gone.request)
        assert codes(site.recorder) == {"ok": 1, RequestCancelled.code: 1}  # the door counts what it refuses
        await late.answer()
        worker.held.set()
        site.predictions.cancel(late.request)
        assert codes(site.recorder) == {"ok": 1, "cancelled": 1, "deadline": 1}
        assert timed(site.recorder) == 2


@pytest.mark.usefixtures("virtual_time")
async def test_a_request_that_was_retried_is_one() -> None:
    async with open_site() as site:
        first = await site.ready_worker()
        await site.set_weights(b"2")
        first.hold()
        asked = site.ask(1.0)
        await trio.testing.wait_all_tasks_blocked()
        second = await site.ready_worker()
        first.die()
        assert await asked.answer() == 2.0
        assert second.batches
        assert codes(site.recorder) == {"ok": 1}
