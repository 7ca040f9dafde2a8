"""The three models that everything is measured with, and how their rows are made."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bench.client import Client
from bench.executor.payloads import VECTOR, Tensor
from bench.programs import ROOT, Server
from bench.schedule import Row

LOAD_TIME = 60.0


class Workload(NamedTuple):
    """Requests for one model ("" for the one of `/predict`): `inputs` different rows, again and again."""

    model: str
    tensor: Tensor
    inputs: int

    def rows(self) -> list[Row]:
        """One request for each input."""
        return [Row(0.0, self.model, str(n)) for n in range(self.inputs)]


# More rows than the cache holds, asked for in turn, are never found in it; the other two models have none.
# Their inputs are as bench.perceptron and bench.encoder make them, which need torch to be imported.
TINY = Workload("", VECTOR, 20_000)
MLP784 = Workload("perceptron", Tensor("x", "FP32", (784,)), 300)
TRANSFORMER = Workload("encoder", Tensor("ids", "INT64", (32,), 1000), 500)
WORKLOADS = {"tiny": TINY, "mlp784": MLP784, "transformer": TRANSFORMER}


def make_models(folder: Path, *workloads: Workload) -> None:
    """Write the models of all but the first one, as a gateway serves them: without a cache."""
    if MLP784 in workloads:
        _python("bench.perceptron", str(folder))
    if TRANSFORMER in workloads:
        version = folder / TRANSFORMER.model / "1"
        version.mkdir(parents=True)
        # A little longer than 32 clients need to ask again, where a batch takes 150 ms.
        (version.parent / "model.toml").write_text("max_batch = 32\nmax_wait_ms = 10\ncache_size = 0\n")
        _python("bench.encoder", "make", str(version / "model.pt"))


def wait_served(server: Server, *workloads: Workload) -> None:
    """Until the server has their models; `RuntimeError`."""
    wanted = {workload.model for workload in workloads} - {""}
    end = time.monotonic() + LOAD_TIME
    with Client(server.port) as client:
        while time.monotonic() < end:
            if wanted <= {model["name"] for model in client.get("/models")["models"] if model["active"]}:
                return
            time.sleep(0.05)
    raise RuntimeError(f"the models were not served within {LOAD_TIME:.0f} s; see {server.log}")


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-m", *arguments], cwd=ROOT, check=True)
