"""Pure: what a traceparent is, and which requests have spans."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from common.errors import PipelineError
from common.tracing import Parent, Spans, open_spans, parent_from, read_parent, traceparent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("given", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_traceparent_names_a_trace_and_a_span(given: str, sampled: bool) -> None:
    assert read_parent(given) == Parent(int(TRACE, 16), int(SPAN, 16), sampled)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_no_traceparent_is_none(given: str) -> None:
    assert read_parent(given) is None


def spans(rate: float, chance: float = 0.5) -> Spans:
    return Spans(TracerProvider(shutdown_on_exit=False).get_tracer("test"), rate, lambda: chance)


def test_whoever_began_a_trace_has_decided_and_else_a_share_is_taken() -> None:
    for rate in (0.0, 1.0):
        assert spans(rate).parent_of(f"00-{TRACE}-{SPAN}-01")[0]
        assert not spans(rate).parent_of(f"00-{TRACE}-{SPAN}-00")[0]
    assert spans(0.6).parent_of(None) == (True, None)
    assert spans(0.4).parent_of(None) == (False, None)
    assert spans(0.0).parent_of("nonsense") == (False, None)


def test_of_many_requests_the_share_that_was_asked_for_has_spans_and_not_every_so_many_th() -> None:
    made = Spans(TracerProvider(shutdown_on_exit=False).get_tracer("test"), 0.01, random.Random(1).random)
    chosen = [n for n in range(100_000) if made.parent_of(None)[0]]
    assert 900 < len(chosen) < 1100  # three times the standard deviation
    assert len({later - earlier for earlier, later in pairwise(chosen)}) > 100


def test_a_span_is_under_its_parent_and_what_is_told_of_it_is_read_again() -> None:
    made = spans(1.0)
    began: Any = made.begin("one", "server", read_parent(f"00-{TRACE}-{SPAN}-01"), 5, rows=3)
    assert (began.parent.span_id, began.parent.is_remote) == (int(SPAN, 16), True)
    assert (began.start_time, dict(began.attributes)) == (5, {"rows": 3})
    assert read_parent(traceparent_of(began)) == parent_from(began)
    assert parent_from(began).trace == int(TRACE, 16)


def test_nothing_is_imported_for_who_wants_no_spans() -> None:
    modules = "sys, gateway.observing.tracing, engine.planes.tracing"
    code = f"import {modules}; print('opentelemetry' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_who_wants_spans_without_the_library_is_told_which_extra_has_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    sentence = r"--otel needs .*: pip install 'pipeline-inference\[otel\]'"
    with pytest.raises(PipelineError, match=sentence), open_spans("http://127.0.0.1:1", "test"):
        pass


def test_without_a_collector_there_are_no_spans() -> None:
    with open_spans(None, "test") as made:
        assert made is None
