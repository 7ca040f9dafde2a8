"""Pure: what is counted of each batch that comes back."""

from __future__ import annotations

from common.errors import ModelError, PipelineError
from common.tensor import vector_spec
from common.wire import Call, PartAnswer
from gateway.observing.statistics import Statistics
from gateway.scheduling.requests import Answer, ModelKey, Provenance, Request

KEY = ModelKey("m", "1")
BY = Provenance("w", "1", batch=0, link=0, infer=0)


def reply(*, admitted: float, queue: float = 0.25, hit: bool = False, failed: bool = False):
    request = Request(
        KEY, vector_spec(1), (b"",), 1, admitted=admitted, deadline=9, route=None, reply=lambda answer: None
    )
    answer: Answer | PipelineError = Answer((), (), hit, queue, BY)
    return request, ModelError("no") if failed else answer


def part(*calls: Call, lookup: float = 0.0) -> PartAnswer:
    return PartAnswer((), [], b"", list(calls), lookup)


def test_a_version_that_nobody_asked_has_done_nothing() -> None:
    figures = Statistics().of(KEY)
    assert (figures.rows, figures.executions, figures.success.count, figures.last) == (0, 0, 0, 0.0)


def test_a_batch_counts_its_requests_and_what_the_model_ran() -> None:
    statistics = Statistics()
    replies = [
        reply(admitted=1.0),
        reply(admitted=2.0, hit=True),
        reply(admitted=2.5),
        reply(admitted=0, failed=True),
    ]
    calls = Call(4, 0.125, 0.5, 0.25), Call(2, 0.125, 0.25, 0.25)
    statistics.answered(KEY, replies, [part(*calls, lookup=0.75)], now=3.0, unix_time=1e9)
    figures = statistics.of(KEY)
    assert (figures.rows, figures.executions, figures.last) == (6, 2, 1e9)
    assert (figures.success.count, figures.success.seconds) == (3, 2.0 + 1.0 + 0.5)
    assert (figures.queue.count, figures.queue.seconds) == (3, 0.75)
    assert (figures.cache_hit.count, figures.cache_hit.seconds) == (1, 0.25)
    assert (figures.cache_miss.count, figures.cache_miss.seconds) == (2, 0.5)
    assert (figures.computed.infer.count, figures.computed.infer.seconds) == (2, 1.5)
    assert (figures.computed.input.seconds, figures.computed.output.seconds) == (0.5, 1.0)
    assert {size: (each.infer.count, each.infer.seconds) for size, each in figures.batches.items()} == {
        4: (1, 0.5),
        2: (1, 0.25),
    }


def test_a_batch_from_the_cache_alone_computes_nothing() -> None:
    statistics = Statistics()
    statistics.answered(KEY, [reply(admitted=1, hit=True)], [part(lookup=0.5)], now=2.0, unix_time=1.0)
    figures = statistics.of(KEY)
    assert (figures.rows, figures.executions, figures.computed.infer.count, figures.batches) == (0, 0, 0, {})
    assert (figures.cache_hit.count, figures.cache_miss.count, figures.success.count) == (1, 0, 1)


def test_what_ran_counts_though_nobody_waits_for_it_any_more() -> None:
    statistics = Statistics()
    statistics.answered(KEY, [], [part(Call(3, 0, 1, 0))], now=2.0, unix_time=1.0)
    assert (statistics.of(KEY).rows, statistics.of(KEY).success.count) == (3, 0)


def test_failures_are_counted_for_themselves_and_versions_apart() -> None:
    statistics = Statistics()
    statistics.failed(KEY, 0.5)
    statistics.failed(KEY, 0.25)
    assert (statistics.of(KEY).fail.count, statistics.of(KEY).fail.seconds) == (2, 0.75)
    assert statistics.of(ModelKey("m", "2")).fail.count == 0
