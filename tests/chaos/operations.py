"""What somebody does beside the load: uploads and activates versions, and submits jobs. It is put down."""

from __future__ import annotations

import http.client
import io
import itertools
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from tests.chaos.answers import NETWORK, linear
from tests.chaos.history import Change, History, Job
from tests.chaos.traffic import LINE
from tests.e2e.processes import Gateway
from tests.e2e.rest import Answer
from tests.e2e.weights import ONE, THREE, TWO, stored, upload

AGAIN = 0.5  # after a refusal
ROWS, FILE_ROWS = 20, 300
FILE_EVERY = 5
END = 60.0  # seconds until every job has to be over, once nothing disturbs them any more

Clock = Callable[[], float]
Lost = (OSError, http.client.HTTPException)


class Paces(NamedTuple):
    """Seconds between two changes of the weights, two of the versions, and two jobs."""

    weights: float = 3.0
    versions: float = 3.0
    jobs: float = 2.0


class Target(Protocol):
    """The gateway that is there now, and the folder whose files it may read and write."""

    @property
    def gateway(self) -> Gateway: ...

    @property
    def batch(self) -> Path: ...


class Operations:
    """Three people: one changes weights, one a model's versions, one submits jobs. None does two things at
    once, so a model's changes come one after the other."""

    def __init__(self, site: Target, history: History, clock: Clock, paces: Paces) -> None:
        self._site = site
        self._paces = paces
        self._history = history
        self._clock = clock
        self._over = threading.Event()
        self.failed: list[BaseException] = []

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Until the block ends. The first version of each model is there when it begins."""
        weights, versions = self._weights(), self._versions()
        next(weights)
        next(versions)
        steps = zip((weights, versions, self._jobs()), self._paces, strict=True)
        threads = [threading.Thread(target=self._go_on, args=each, daemon=True) for each in steps]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        if self.failed:
            raise self.failed[0]

    def _go_on(self, steps: Iterator[None], pause: float) -> None:
        try:
            while not self._over.wait(pause):
                next(steps)
        except BaseException as error:
            self.failed.append(error)

    def _weights(self) -> Iterator[None]:
        for nn_id in itertools.cycle((ONE, TWO, THREE)):
            body, kind = upload(nn_id, stored(nn_id))
            self._change(NETWORK, nn_id, "PUT", "/set_weights", body, content_type=kind)
            yield

    def _versions(self) -> Iterator[None]:
        """A new version, and then the one before it again, if that is there."""
        before = ""
        for version in map(str, itertools.count(1)):
            path = f"/models/{LINE}/versions/{version}?activate=true&file=line.pt"
            is_there = self._change(LINE, version, "PUT", path, weights(version))
            yield
            if before:
                body = json.dumps({"version": before}).encode()
                self._change(LINE, before, "POST", f"/models/{LINE}/activate", body)
                yield
            before = version if is_there else before

    def _change(self, model: str, version: str, method: str, path: str, body: bytes, **headers: str) -> bool:
        """Whether it was done, as far as is known."""
        begun = self._clock()
        try:
            answer = self._site.gateway.ask(method, path, body, **headers)
        except Lost as error:
            outcome, why = "unknown", repr(error)
            self._wait_for_gateway()
        else:
            is_done = answer.status in (200, 201) and answer.json["status"]
            outcome, why = ("done", "") if is_done else ("refused", f"{answer.status} {answer.body!r}")
        self._history.changes.append(Change(model, version, begun, self._clock(), outcome, why))
        return outcome == "done"

    def _wait_for_gateway(self) -> None:
        """Until it answers; what it had in hand before it was killed is over then."""
        while True:
            with suppress(*Lost):
                self._site.gateway.ask("GET", "/status")
                return
            self._over.wait(AGAIN)

    def _jobs(self) -> Iterator[None]:
        for number in itertools.count(1):
            is_file = number % FILE_EVERY == 0
            rows = [(n / 8, float(number)) for n in range(FILE_ROWS if is_file else ROWS)]
            job = Job(f"job-{number}", LINE, rows, self._clock(), is_file)
            self._history.jobs.append(job)
            self._submit(job)
            yield

    def _submit(self, job: Job) -> None:
        """Again and again, until it is acknowledged: it has a key, so it is there once."""
        body: dict[str, Any] = {"model": job.model}
        if job.is_file:
            source = self._site.batch / f"{job.key}.jsonl"
            source.write_text("".join(f"{json.dumps(row)}\n" for row in job.rows))
            body |= {"input": f"file://{source}", "output": f"file://{self._output(job)}"}
        else:
            body["vectors"] = job.rows
        while True:
            with suppress(*Lost):
                answer = self._ask(job, json.dumps(body).encode())
                if answer.status == 202:
                    job.id, job.acknowledged = answer.json["id"], self._clock()
                    return
                job.refused.append((self._clock(), f"{answer.status} {answer.body!r}"))
            self._over.wait(AGAIN)

    def _ask(self, job: Job, body: bytes) -> Answer:
        return self._site.gateway.ask("POST", "/jobs", body, idempotency_key=job.key)

    def collect(self) -> None:
        """See what has become of every job, when nothing disturbs them any more."""
        until = self._clock() + END
        for job in self._history.jobs:
            if job.acknowledged is not None:
                self._result(job, until)
        known = {job.id for job in self._history.jobs}
        self._history.strays += [found for found in self._listed() if found not in known]

    def _result(self, job: Job, until: float) -> None:
        while True:
            wait = min(max(until - self._clock(), 0.0), 20.0)
            answer = self._site.gateway.ask("GET", f"/jobs/{job.id}/result?wait={wait:.0f}")
            if answer.status != 202 or self._clock() > until:
                break
        found = self._site.gateway.ask("GET", f"/jobs/{job.id}").json
        job.state, job.version = found.get("state", "lost"), found.get("version", "")
        if job.state != "done":
            job.state += f" ({found.get('error') or found.get('message')})"
        elif job.is_file:
            lines = [json.loads(line) for line in self._output(job).read_text().splitlines()]
            job.results = [(line["row"], line.get("result", math.nan)) for line in lines]
        else:
            job.results = list(enumerate(answer.json["results"], 1))

    def _listed(self) -> Iterator[str]:
        cursor = ""
        while True:
            page = self._site.gateway.ask("GET", f"/jobs?limit=100{cursor}").json
            yield from (job["id"] for job in page["jobs"])
            if not page.get("cursor"):
                return
            cursor = f"&cursor={page['cursor']}"

    def _output(self, job: Job) -> Path:
        return self._site.batch / f"{job.key}.out.jsonl"


def weights(version: str) -> bytes:
    """The file of a version of the linear model."""
    file = io.BytesIO()
    torch.save({"coefs": torch.tensor(linear(version))}, file)
    return file.getvalue()
