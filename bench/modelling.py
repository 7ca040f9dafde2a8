"""Models beside the default one: a transformer in batches, and versions switched under load."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

from bench.client import Client
from bench.encoder import LENGTH
from bench.figures import Figure
from bench.programs import ROOT, Server, gateway
from bench.run import SAMPLE, Run, upload_sample
from bench.wrk import Load, drive

CLIENTS = 32
MAX_WAIT_MS = 10  # what 32 clients need to ask again, where a batch takes 150


def transformer(run: Run) -> list[Figure]:
    """32 clients, one worker; each run beside one of the same program without any server."""
    path = run.directory / "models" / "encoder" / "1" / "model.pt"
    path.parent.mkdir(parents=True)
    (path.parents[1] / "model.toml").write_text(f"max_batch = {CLIENTS}\nmax_wait_ms = {MAX_WAIT_MS}\n")
    _encoder("make", str(path))
    threads = os.cpu_count() or 1
    served, bare = [], []
    with gateway(run.directory, models=path.parents[2]) as server:
        _wait_served(server)
        _tokens(run, server, seconds=3)
        for n in range(run.repeats):
            run.say(f"transformer: run {n + 1} of {run.repeats}, then without a server")
            served.append(_tokens(run, server, seconds=2 * run.seconds).rate)
            bare.append(float(_encoder("run", str(path), str(run.seconds), str(threads))))
    ratio = median(ours / alone for ours, alone in zip(served, bare, strict=True))
    run.details["transformer"] = {"served": served, "bare": bare}
    return [
        Figure(
            "transformer, beside batches of 32 alone", ratio, "", at_least=0.95,
            note=f"{median(served):.0f} of {median(bare):.0f} rows/s",
        )
    ]  # fmt: skip


def switching(run: Run) -> list[Figure]:
    """Two versions of the default network, switched to and fro under load."""
    (file,) = (ROOT / "data").glob("0d3c5dff*.b64")
    with gateway(run.directory) as server:
        upload_sample(server)
        _pairs(run, server, seconds=1)
        before = _pairs(run, server, seconds=run.seconds)
        run.say("switching: new weights every half second")
        over = threading.Event()
        switcher = threading.Thread(target=_switch, args=(server, file, over))
        switcher.start()
        during = _pairs(run, server, seconds=run.seconds)
        over.set()
        switcher.join()
    run.details["switching"] = {"before": before._asdict(), "during": during._asdict()}
    return [
        Figure("p99 while versions are switched, over before", during.p99 / before.p99, "", at_most=2),
        Figure("  failed", during.errors, "requests", at_most=0, note=f"of {during.requests:,}"),
    ]


def _wait_served(server: Server) -> None:
    with Client(server.port) as client:
        for _ in range(300):
            if any(model["active"] for model in client.get("/models")["models"]):
                return
            time.sleep(0.1)
    raise RuntimeError(f"the encoder is not served; see {server.log}")


def _switch(server: Server, other: Path, over: threading.Event) -> None:
    """Set other weights again and again, until told that it is over."""
    (sample,) = (ROOT / "data").glob(f"{SAMPLE}_*.b64")
    files = [other, sample]
    with Client(server.port) as client:
        while not over.wait(0.5):
            files.reverse()
            answer = client.set_weights(files[0].name.partition("_")[0], files[0].read_bytes()).answer
            if not answer["status"]:
                raise RuntimeError(f"the weights were refused: {answer}")


def _tokens(run: Run, server: Server, *, seconds: float) -> Load:
    told = {"seed": run.seed(), "length": LENGTH, "model": "encoder"}
    return drive(server, "tokens.lua", clients=CLIENTS, seconds=seconds, **told)


def _pairs(run: Run, server: Server, *, seconds: float) -> Load:
    return drive(server, "pairs.lua", clients=CLIENTS, seconds=seconds, seed=run.seed())


def _encoder(*arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "bench.encoder", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
