"""Pure: gateway/jobs/job.py: what may happen to a job, and that each of its rows is counted once."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Conflict
from common.tensor import TensorSpec
from gateway.jobs.job import (
    TRANSITIONS,
    BatchFiles,
    Event,
    Job,
    State,
    after,
    further,
    next_chunk,
)

OUTPUTS = (TensorSpec("result", "FP32", (1,)),)


def make(**how) -> Job:
    told = {"id": "j", "model": "m", "version": "1", "nn_id": "1", "shape": "vectors", "ttl": 60.0}
    return Job(**(told | {"created": 10.0} | how))


def test_a_job_goes_from_the_queue_to_its_end():
    job = after(make(), Event.START, 12.0)
    assert (job.state, job.started, job.finished) == (State.RUNNING, 12.0, 0.0)
    job = after(job, Event.FINISH, 15.0)
    assert (job.state, job.finished, job.expires, job.progress) == (State.DONE, 15.0, 75.0, 1.0)
    job = after(job, Event.EXPIRE, 75.0)
    assert (job.state, job.finished, job.is_over) == (State.EXPIRED, 15.0, True)


def test_a_job_that_was_interrupted_waits_again_and_keeps_when_it_first_began():
    job = after(after(make(), Event.START, 12.0), Event.INTERRUPT, 20.0)
    assert (job.state, job.started, job.is_over) == (State.QUEUED, 12.0, False)
    assert after(job, Event.START, 30.0).started == 12.0


def test_a_job_that_runs_does_not_expire_and_one_that_waits_does():
    assert after(make(), Event.EXPIRE, 70.0, "late").error == "late"
    with pytest.raises(Conflict, match="job j is running: it cannot be expired"):
        after(after(make(), Event.START, 12.0), Event.EXPIRE, 70.0)


@given(st.lists(st.sampled_from(Event)))
def test_whatever_happens_a_job_that_is_over_never_runs_again(events):
    job, was_over = make(), False
    for event in events:
        try:
            job = after(job, event, 11.0)
        except Conflict:
            assert event not in TRANSITIONS[job.state]
        assert job.is_over or not was_over
        was_over = job.is_over
        assert bool(job.finished) == was_over


@given(
    sizes=st.lists(st.integers(0, 5), max_size=8),
    crashes=st.lists(st.sampled_from(["computed", "kept", "heard"]), max_size=8),
)
def test_each_row_is_in_one_chunk_whatever_crashes_between_which_steps(sizes, crashes):
    """What is kept is (job, chunks), changed together; what runs has a copy that a crash takes."""
    kept, chunks = after(make(rows_total=sum(sizes)), Event.START, 11.0), []
    rows = list(range(sum(sizes)))
    running, steps = kept, iter(crashes)
    while running.position < len(rows):
        size = max(1, sizes[len(chunks) % len(sizes)])
        answers = rows[running.position : running.position + size]
        chunk = next_chunk(running, len(answers), 0, running.position + len(answers))
        crash = next(steps, None)
        if crash != "computed":
            kept = further(kept, chunk, OUTPUTS)
            chunks.append(answers)
            with pytest.raises(Conflict, match="comes next"):  # nothing keeps the same chunk twice
                further(kept, chunk, OUTPUTS)
        if crash is None:
            running = kept
        else:
            kept = after(after(kept, Event.INTERRUPT, 12.0), Event.START, 13.0)
            running = msgspec.json.decode(msgspec.json.encode(kept), type=Job)
    assert [row for chunk in chunks for row in chunk] == rows
    assert (kept.rows_done, kept.chunks) == (len(rows), len(chunks))


def test_failed_rows_are_counted_and_outputs_are_those_of_the_first_answer():
    job = after(make(), Event.START, 11.0)
    job = further(job, next_chunk(job, 3, 3, 30), ())
    assert (job.rows_done, job.rows_failed, job.outputs) == (3, 3, ())
    job = further(job, next_chunk(job, 2, 1, 50), OUTPUTS)
    assert (job.rows_done, job.rows_failed, job.position, job.outputs) == (5, 4, 50, OUTPUTS)


def test_progress_is_of_rows_or_else_of_bytes():
    assert make(rows_total=8, rows_done=2).progress == 0.25
    assert make(rows_total=0).progress == 0.0
    files = BatchFiles(input="file:///i", output="file:///o", format="csv", size=200)
    assert make(files=files, position=50).progress == 0.25
    assert make().progress == 0.0


def test_a_job_that_is_over_gets_no_chunk():
    job = after(after(make(), Event.START, 11.0), Event.CANCEL, 12.0)
    with pytest.raises(Conflict, match="job j is cancelled"):
        further(job, next_chunk(job, 1, 0, 1), OUTPUTS)
