"""Which job is next, and how many run at once. Pure."""

from __future__ import annotations

from gateway.jobs.job import Job, State
from gateway.scheduling.requests import ModelKey

RUNNING = 4
BATCHES = 2  # so that a few rows need not wait for the end of long files


class Line:
    """The unfinished jobs, in the order they came. Who is next goes by priority, then by age.

    Invariant: at most `RUNNING` run, `BATCHES` of them with files.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """A job came."""
        self._jobs[job.id] = job

    def change(self, job: Job) -> None:
        """A job changed; one that is over leaves. Late news of one that left changes nothing."""
        if job.is_over:
            self._jobs.pop(job.id, None)
        elif job.id in self._jobs:
            self._jobs[job.id] = job

    def get(self, job_id: str) -> Job | None:
        """An unfinished job."""
        return self._jobs.get(job_id)

    def all(self) -> list[Job]:
        """Every unfinished job."""
        return list(self._jobs.values())

    def needs(self, key: ModelKey) -> list[Job]:
        """The jobs that a model version is needed for."""
        return [job for job in self._jobs.values() if job.key == key]

    def waiting(self) -> list[Job]:
        """The jobs that did not start, who is next first."""
        queued = [job for job in self._jobs.values() if job.state is State.QUEUED]
        return sorted(queued, key=lambda job: -job.priority)  # which keeps the order of equals

    def position(self, job_id: str) -> int | None:
        """How many are to start before this one; None for one that does not wait."""
        return next((at for at, job in enumerate(self.waiting()) if job.id == job_id), None)

    def next(self) -> Job | None:
        """The job to start now, if there is one and room for it."""
        running = [job for job in self._jobs.values() if job.state is State.RUNNING]
        if len(running) >= RUNNING:
            return None
        batches = sum(job.files is not None for job in running)
        return next((job for job in self.waiting() if job.files is None or batches < BATCHES), None)
