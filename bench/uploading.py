"""set_weights of 100 MB to four workers: how long, where its time goes, is `/predict` answered meanwhile?"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from statistics import median
from typing import Any, NamedTuple

from bench.client import Client, Predicted, Uploaded
from bench.figures import Figure
from bench.programs import ROOT, Server, gateway
from bench.run import SAMPLE, Run, upload_sample

WORKERS = 4
RUNS = 5
PACE = 0.005  # between two predictions: enough to see a gap, too few to be a load
BOUND = 3.0
_LOADED = re.compile(r"^(\S+) .*weights loaded .*bytes=1\d{8} seconds=([0-9.]+)")


def set_weights(run: Run) -> list[Figure]:
    """With workers of the gateway's own machine, and with workers that dial it over ws."""
    return [*_set_weights(run, "ipc", near=WORKERS), *_set_weights(run, "ws", far=WORKERS)]


class Upload(NamedTuple):
    """One upload and what `torch.load` of the same file took; all in seconds."""

    uploaded: Uploaded
    floors: dict[str, float]
    loading: float  # the slowest worker's own
    answers: int
    gap: float
    faults: list[str]


def _set_weights(run: Run, kind: str, *, near: int = 0, far: int = 0) -> list[Figure]:
    uploads: list[Upload] = []
    with gateway(run.directory, near=near, far=far) as server, _weights(run) as make:
        upload_sample(server)
        for n in range(1 if run.is_quick else RUNS):
            run.say(f"set_weights: 100 MB to {WORKERS} {kind} workers, run {n + 1}")
            uploads.append(_upload(run, server, make(run.seed())))
    run.details[f"set_weights {kind}"] = [upload._asdict() for upload in uploads]
    ratio = median(upload.uploaded.total / upload.floors["load"] for upload in uploads)
    sending, total = (median(getattr(u.uploaded, name) for u in uploads) for name in ("sending", "total"))
    loading, answers = median(u.loading for u in uploads), sum(u.answers for u in uploads)
    floors = {name: median(u.floors[name] for u in uploads) for name in ("load", "sha256", "fsync")}
    faults = [fault for upload in uploads for fault in upload.faults]
    return [
        Figure(
            f"set_weights of 100 MB, 4 {kind} workers", ratio, "× torch.load", at_most=BOUND,
            note=f"{total * 1000:.0f} ms, torch.load {floors['load'] * 1000:.0f} ms",
        ),
        Figure(
            "  until the last byte was taken", sending * 1000, "ms",
            note=f"sha256 alone {floors['sha256'] * 1000:.0f}, write and fsync {floors['fsync'] * 1000:.0f}",
        ),
        Figure(
            "  from there to the answer", (total - sending) * 1000, "ms",
            note=f"of it the slowest worker's loading {loading * 1000:.0f}",
        ),
        Figure(
            "  predictions that failed meanwhile", len(faults), "", at_most=0,
            note=f"of {answers}, longest gap {max(u.gap for u in uploads) * 1000:.0f} ms {faults[:1] or ''}",
        ),
    ]  # fmt: skip


@contextlib.contextmanager
def _weights(run: Run) -> Iterator[Any]:
    """A function that makes new weights: seed → timings; the files are in the run's folder."""
    command = [sys.executable, "-m", "bench.weights_file", str(run.directory)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, said = process.stdin, process.stdout

        def make(seed: int) -> dict[str, float]:
            print(seed, file=asked, flush=True)
            floors: dict[str, float] = json.loads(said.readline())
            return floors

        yield make


def _upload(run: Run, server: Server, floors: dict[str, float]) -> Upload:
    text = (run.directory / "weights.b64").read_bytes()
    began = time.time()
    with _Watch(server) as watch, Client(server.port) as client:
        uploaded = client.set_weights(SAMPLE, text)
    faults = list(watch.faults)
    if not uploaded.answer["status"]:
        faults.append(str(uploaded.answer)[:200])
    return Upload(uploaded, floors, _slowest_load(run, began), watch.answers, watch.gap, faults)


class _Watch:
    """Predicts all the time: each answer is the old version's, until one is the new one's."""

    def __init__(self, server: Server) -> None:
        self.answers = 0
        self.gap = 0.0
        self.faults: list[str] = []
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._predict)

    def __enter__(self) -> _Watch:
        self._thread.start()
        time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _predict(self) -> None:
        versions: list[str] = []
        last = time.perf_counter()
        with Client(self._server.port) as client:
            while not self._over.wait(PACE):
                answer = client.predict([0.3, 0.7])
                now = time.perf_counter()
                self.gap, last = max(self.gap, now - last), now
                self.answers += 1
                self._note(answer, versions)

    def _note(self, answer: Predicted, versions: list[str]) -> None:
        if not answer.status:
            self.faults.append("a prediction failed")
        elif answer.version not in versions:
            versions.append(answer.version)
        elif answer.version != versions[-1]:
            self.faults.append(f"version {answer.version} answered again after {versions[-1]}")
        if len(versions) > 2:
            self.faults.append(f"three versions answered: {versions}")


def _slowest_load(run: Run, began: float) -> float:
    """What the workers' logs say of the loads since `began`."""
    found = [
        float(match[2])
        for log in run.directory.glob("*.log")
        for line in log.read_text(errors="replace").splitlines()
        if (match := _LOADED.match(line))
        and datetime.fromisoformat(match[1].replace("Z", "+00:00")).timestamp() >= began - 0.001
    ]
    return max(found, default=0.0)
