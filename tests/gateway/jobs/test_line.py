"""Pure: gateway/jobs/line.py: who is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.job import BatchFiles, Event, Job, State, after
from gateway.jobs.line import BATCHES, RUNNING, Line
from gateway.scheduling.requests import ModelKey

FILES = BatchFiles(input="file:///i", output="file:///o", format="csv")


def make(name: str, *, priority: int = 0, version: str = "1", is_batch: bool = False) -> Job:
    return Job(
        id=name, model="m", version=version, nn_id=version, shape="vectors", ttl=1.0, priority=priority,
        files=FILES if is_batch else None,
    )  # fmt: skip


def line_of(*jobs: Job) -> Line:
    line = Line()
    for job in jobs:
        line.add(job)
    return line


def start(line: Line) -> str | None:
    job = line.next()
    if job is None:
        return None
    line.change(after(job, Event.START, 1.0))
    return job.id


def test_the_more_important_go_first_and_of_equals_the_older():
    line = line_of(make("a"), make("b", priority=5), make("c"), make("d", priority=5))
    assert [job.id for job in line.waiting()] == ["b", "d", "a", "c"]
    assert [line.position(name) for name in "abcd"] == [2, 0, 3, 1]
    assert start(line) == "b"
    assert (line.position("b"), line.position("d"), line.position("nobody")) == (None, 0, None)


def test_a_few_rows_need_not_wait_for_the_end_of_long_files():
    line = line_of(*(make(f"long{n}", priority=9, is_batch=True) for n in range(4)), make("short"))
    assert [start(line) for _ in range(4)] == ["long0", "long1", "short", None]


def test_a_job_that_is_over_leaves_and_its_version_is_needed_no_more():
    line = line_of(make("a"), make("b", version="2"))
    assert [job.id for job in line.needs(ModelKey("m", "1"))] == ["a"]
    line.change(after(make("a"), Event.CANCEL, 1.0))
    assert (len(line), line.needs(ModelKey("m", "1")), line.get("a")) == (1, [], None)
    line.change(after(make("a"), Event.START, 1.0))  # late news
    assert line.get("a") is None


@given(st.lists(st.tuples(st.integers(-1, 1), st.booleans(), st.booleans()), max_size=30))
def test_never_do_too_many_run_and_nobody_waits_beside_room(steps):
    line = Line()
    for n, (priority, is_batch, ends_one) in enumerate(steps):
        line.add(make(f"j{n}", priority=priority, is_batch=is_batch))
        while start(line):
            pass
        running = [job for job in line.all() if job.state is State.RUNNING]
        batches = [job for job in running if job.files is not None]
        waiting = line.waiting()
        assert len(running) <= RUNNING
        assert len(batches) <= BATCHES
        if len(running) < RUNNING:
            assert all(job.files is not None for job in waiting)
            assert len(batches) == BATCHES or not waiting
        if ends_one and running:
            line.change(after(running[0], Event.FINISH, 2.0))
