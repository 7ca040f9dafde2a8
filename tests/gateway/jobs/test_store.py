"""Collaboration: gateway/jobs/store.py over a real database and real blobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Conflict, NotFound
from gateway.jobs.job import Event, Job, State, next_chunk
from gateway.jobs.store import JobStore
from gateway.state.state import JOB_BLOBS, open_state


@pytest.fixture
def store() -> Iterator[JobStore]:
    with open_state(None) as state:
        yield state.jobs


def make(name: str, **how) -> Job:
    told = {"model": "m", "version": "1", "nn_id": "1", "shape": "vectors", "ttl": 60.0, "created": 10.0}
    return Job(id=name, **(told | how))


def running(store: JobStore, name: str = "a") -> Job:
    store.add(make(name), None, b"rows")
    return store.happen(name, Event.START, 11.0)


def test_a_chunk_and_how_far_the_job_is_with_it_are_kept_together(store):
    job = running(store)
    chunk = next_chunk(job, 3, 1, 30)
    moved = store.put_chunk(job, chunk, b"answers", ())
    assert store.get("a") == moved
    assert (moved.rows_done, moved.rows_failed, moved.position, moved.chunks) == (3, 1, 30, 1)
    assert store.answers("a", 0) == b"answers"
    with pytest.raises(Conflict, match="chunk 1 at row 3 comes next"):
        store.put_chunk(job, chunk, b"the same again", ())
    assert (store.get("a"), store.answers("a", 0)) == (moved, b"answers")


def test_a_chunk_of_a_job_that_was_cancelled_or_forgotten_is_refused(store):
    job = running(store)
    store.happen("a", Event.CANCEL, 12.0)
    with pytest.raises(Conflict, match="job a is cancelled"):
        store.put_chunk(job, next_chunk(job, 1, 0, 1), b"late", ())
    store.forget("a")
    with pytest.raises(NotFound):
        store.put_chunk(job, next_chunk(job, 1, 0, 1), b"later", ())


def test_what_was_kept_is_there_after_a_restart_and_what_was_not_named_is_swept(tmp_path: Path):
    with open_state(tmp_path) as state:
        job = running(state.jobs)
        state.jobs.put_chunk(job, next_chunk(job, 3, 0, 30), b"answers", ())
        (tmp_path / JOB_BLOBS / "left.tmp").write_bytes(b"by a crash")
        state.jobs._write(b"written, and not named as the power went")
    with open_state(tmp_path) as state:
        state.jobs.sweep()
        state.blobs.sweep(state.referenced())
        assert [job.id for job in state.jobs.unfinished()] == ["a"]
        assert (state.jobs.rows("a"), state.jobs.answers("a", 0)) == (b"rows", b"answers")
        assert len(list((tmp_path / JOB_BLOBS).glob("??/*"))) == 2
        assert not list((tmp_path / JOB_BLOBS).glob("*.tmp"))


def test_jobs_that_wait_or_are_over_expire_and_those_that_run_do_not(store):
    store.add(make("waits"), None, b"1")
    running(store, "runs")
    running(store, "done")
    store.happen("done", Event.FINISH, 12.0)
    assert [job.id for job in store.due(70.0)] == ["waits"]
    assert [job.id for job in store.due(72.0)] == ["waits", "done"]
    assert store.expire("done", 72.0).state is State.EXPIRED
    assert [job.id for job in store.due(72.0)] == ["waits"]
    with pytest.raises(NotFound, match="the rows of job done are gone"):
        store.rows("done")


def test_a_callback_is_due_until_it_was_made(store):
    store.add(make("a", callback_url="http://x/"), None, b"")
    assert store.uncalled() == []
    store.happen("a", Event.CANCEL, 11.0)
    assert [job.id for job in store.uncalled()] == ["a"]
    store.called_back("a")
    assert store.uncalled() == []


@given(limit=st.integers(1, 4), jobs=st.integers(0, 9), more=st.integers(0, 3))
def test_pages_hold_every_job_once_whatever_comes_meanwhile(limit, jobs, more):
    with open_state(None) as state:
        for n in range(jobs):
            state.jobs.add(make(f"{n}"), None, None)
        seen, cursor = [], None
        while True:
            page = state.jobs.page(state=None, limit=limit, cursor=cursor)
            seen += [job.id for job in page.jobs]
            for n in range(more):
                state.jobs.add(make(f"late{len(seen)}-{n}"), None, None)
            if (cursor := page.cursor) is None:
                break
        assert seen == [f"{n}" for n in reversed(range(jobs))]


def test_owners_have_keys_and_pages_of_their_own(store):
    mine, hers = make("a", owner="me", digest="d"), make("b", owner="her", digest="e")
    for job in (mine, hers):
        assert store.add(job, "again", None) == (job, True)
    assert store.add(make("c", owner="me", digest="d"), "again", None) == (mine, False)
    assert store.find_key("again", "d", "me") == mine
    assert store.find_key("again", "e", "her") == hers
    assert store.find_key("again", "d", "") is None
    for owner, jobs in (("me", [mine]), ("her", [hers]), ("", []), (None, [hers, mine])):
        assert store.page(state=State.QUEUED, limit=9, cursor=None, owner=owner).jobs == jobs
    assert store.page(state=State.DONE, limit=9, cursor=None, owner="me").jobs == []
