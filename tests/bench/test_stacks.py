"""pure: what samples of stacks come to, as text and as a picture."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

import pytest

from bench.profile.flame import Bar, bars, drawn
from bench.profile.stacks import NAMELESS, Share, Stacks, read_collapsed, read_perf, table, threads, top

COLLAPSED = """\
thread (4711): MainThread;main (gw.py:10);serve (lane.py:20);send (transport.py:5) 60
thread (4711): MainThread;main (gw.py:11);serve (lane.py:21);send (transport.py:9) 10
thread (4711): MainThread;main (gw.py:11);serve (lane.py:22) 10
thread (0x7F12): data-0;run (worker.py:3);run (worker.py:3) 15
thread (99) 5
"""
PERF = """\
data-0  812
\t    7f01 _PyEval_EvalFrameDefault+0x2f5 (/usr/lib/libpython3.12.so.1.0)
\t    7f02 py::Execution.run:/srv/engine/execution.py (/tmp/perf-812.map)
\t    7f03 thread_run (/usr/lib/libpython3.12.so.1.0)

data-0  812
\t    7f01 _PyEval_EvalFrameDefault+0x3 (/usr/lib/libpython3.12.so.1.0)
\t    7f02 py::Execution.run:/srv/engine/execution.py (/tmp/perf-812.map)
\t    7f03 thread_run+0xff (/usr/lib/libpython3.12.so.1.0)

nng:poll:epoll  813
\tffffffff8 [unknown] ([kernel.kallsyms])

"""


@pytest.fixture
def stacks() -> Stacks:
    return read_collapsed(COLLAPSED)


def test_threads_have_their_names_where_they_have_one(stacks: Stacks):
    assert stacks.total() == 100
    assert threads(stacks) == [("MainThread", 0.8), ("data-0", 0.15), (NAMELESS, 0.05)]


def test_lines_of_a_function_are_one_and_a_recursion_counts_once(stacks: Stacks):
    assert top(stacks, 3) == [
        Share("send (transport.py)", 0.7, 0.7),
        Share("run (worker.py)", 0.15, 0.15),
        Share("serve (lane.py)", 0.1, 0.8),
    ]


def test_what_perf_saw_is_read_from_the_inside_out():
    assert read_perf(PERF) == Counter(
        {
            (
                "data-0",
                "thread_run (libpython3.12.so.1.0)",
                "Execution.run (engine/execution.py)",
                "_PyEval_EvalFrameDefault (libpython3.12.so.1.0)",
            ): 2,
            ("nng:poll:epoll", "[unknown] ([kernel.kallsyms])"): 1,
        }
    )


def test_the_text_says_how_busy_each_thread_was(stacks: Stacks):
    said = table("gateway", stacks, possible=160, count=1)
    assert said == (
        "gateway: 100 samples\n"
        "   80.0%  thread MainThread, busy 50% of the time\n"
        "   15.0%  thread data-0, busy 9% of the time\n"
        "    5.0%  thread without a name, busy 3% of the time\n"
        "\n"
        "     own   whole  function\n"
        "   70.0%   70.0%  send (transport.py)\n"
    )
    assert table("worker", Counter(), possible=160, count=1) == "worker: no samples, it did nothing\n"


def test_a_frame_stands_on_its_caller_and_is_as_wide_as_its_share(stacks: Stacks):
    found = list(bars(stacks))
    assert found[:3] == [
        Bar("MainThread", 0, 0.0, 0.8),
        Bar("main (gw.py:10)", 1, 0.0, 0.6),
        Bar("serve (lane.py:20)", 2, 0.0, 0.6),
    ]
    assert Bar("main (gw.py:11)", 1, 0.6, 0.2) in found
    assert Bar("data-0", 0, 0.8, 0.15) in found
    for level in range(4):
        assert sum(bar.share for bar in found if bar.level == level) <= 1.0


def test_the_picture_loads_nothing_and_holds_any_name(stacks: Stacks):
    stacks["MainThread", "<module> (a & b.py:1)"] = 3
    root = ElementTree.fromstring(drawn(stacks, "gateway <1>"))
    names = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "<module> (a & b.py:1): 3 samples, 2.9%" in names
    assert not [each for each in root.iter() if any("href" in name or name == "src" for name in each.attrib)]
    assert ElementTree.fromstring(drawn(Counter(), "nothing")) is not None
