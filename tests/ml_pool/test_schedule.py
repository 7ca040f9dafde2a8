"""pure: which job runs next, who waits for room, what expires when."""

from __future__ import annotations

from typing import Any

from ml_pool.jobs import Job, JobFuture, next_number
from ml_pool.payload import Packed
from ml_pool.schedule import Schedule


class Nobody:
    """Cancels nothing."""

    def cancel(self, job: Job) -> bool:
        return False


def make_job(deadline: float | None = None, **how: Any) -> Job:
    job = Job(
        next_number(), Packed(b"", None), "m", JobFuture(Nobody()), timeout=None, retries=0,
        fetched_by_id=how.pop("fetched_by_id", True),
    )  # fmt: skip
    job.deadline = deadline
    return job


def filled(count: int, *, size: int = 2, ttl: float = 10.0) -> tuple[Schedule, list[Job]]:
    schedule = Schedule(size, ttl)
    jobs = [make_job() for _ in range(count)]
    for job in jobs:
        schedule.add(job)
    return schedule, jobs


def test_jobs_run_in_the_order_they_came() -> None:
    schedule, jobs = filled(5)
    assert [schedule.take(0.0) for _ in range(6)] == [*jobs, None]
    assert list(schedule.running) == jobs


def test_a_job_beyond_the_size_waits_for_room_until_one_is_taken() -> None:
    schedule, jobs = filled(4)
    assert [job.waiting_for_room is None for job in jobs] == [True, True, False, False]
    schedule.take(0.0)
    assert [job.waiting_for_room is None or job.waiting_for_room.done() for job in jobs] == [True] * 3 + [
        False
    ]
    assert schedule.is_full
    assert schedule.waiting == 3


def test_a_job_that_ends_in_the_queue_makes_room_too() -> None:
    schedule, jobs = filled(3)
    assert schedule.end(jobs[0], 0.0)
    assert jobs[2].waiting_for_room is not None
    assert jobs[2].waiting_for_room.done()
    assert schedule.waiting == 2


def test_a_job_that_ends_outside_is_not_let_in() -> None:
    schedule, jobs = filled(3)
    assert schedule.end(jobs[2], 0.0)
    assert jobs[2].waiting_for_room is not None
    assert jobs[2].waiting_for_room.done()
    assert schedule.unfinished() == jobs[:2]
    assert not schedule.end(jobs[2], 1.0)


def test_a_job_that_was_put_back_comes_first() -> None:
    schedule, jobs = filled(3, size=9)
    first = schedule.take(0.0)
    assert first is jobs[0]
    schedule.put_back(first)
    assert not first.is_running
    assert schedule.take(1.0) is first
    assert first.started == 1.0


def test_a_result_is_known_until_its_time_is_over() -> None:
    schedule, (job, other) = filled(2, ttl=10.0)
    schedule.end(job, 5.0)
    schedule.end(other, 6.0)
    assert schedule.next_time() == 15.0
    schedule.expire(14.9)
    assert schedule.find(job.id) is job
    schedule.expire(15.0)
    assert schedule.find(job.id) is None
    assert schedule.find(other.id) is other
    assert schedule.next_time() == 16.0


def test_a_fetched_result_leaves_nothing_to_expire() -> None:
    schedule, (job,) = filled(1)
    schedule.end(job, 5.0)
    assert schedule.forget(job.id) is job
    assert schedule.forget(job.id) is None
    assert schedule.next_time() is None
    assert schedule.kept == 0


def test_a_job_is_overdue_once_and_only_while_it_has_not_ended() -> None:
    schedule = Schedule(9, 10.0)
    late, later, done = make_job(1.0), make_job(2.0), make_job(0.5)
    for job in (later, late, done):
        schedule.add(job)
    schedule.end(done, 0.0)
    assert schedule.overdue(0.9) == []
    assert schedule.next_time() == 1.0
    assert schedule.overdue(1.0) == [late]
    assert schedule.overdue(1.5) == []
    assert schedule.overdue(3.0) == [later]


def test_ended_jobs_are_not_held_until_their_deadlines() -> None:
    schedule = Schedule(9, 10.0)
    for _ in range(1000):
        job = make_job(300.0, fetched_by_id=False)
        schedule.add(job)
        schedule.end(job, 0.0)
    assert len(schedule._deadlines) < 100
    assert schedule.kept == 0
