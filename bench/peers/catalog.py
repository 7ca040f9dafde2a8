"""The servers: where each comes from, how it is asked, and the command that starts it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
OURS = "pipeline"
LIMIT = "limit"  # no server at all
CORES = {"tiny": 1, "mlp784": 1, "transformer": 2}  # workers of most servers: what was fastest on two cores


class Start(NamedTuple):
    """What a server is started for. `python` is its environment's; the files of models lie in `programs`, and
    `folder` is its own to write to."""

    python: str
    workload: str
    workers: int
    port: int
    programs: Path
    folder: Path
    variant: str = ""
    is_cached: bool = False


class Peer(NamedTuple):
    """A server. `door` and `path` are the load generator's, `package` is what `requirements` installs it by,
    and `start` seconds or so are what it needs to start and to stop."""

    name: str
    title: str
    package: str
    module: str
    door: str
    path: str | None
    start: float
    flags: tuple[str, ...] = ()
    workers: Mapping[str, int] = CORES

    @property
    def is_ours(self) -> bool:
        """Whether it is this project's."""
        return self.name == OURS

    @property
    def remembers(self) -> bool:
        """Whether it answers rows from a cache, as it comes. (MLServer has one, and has to be told.)"""
        return self.is_ours

    @property
    def requirements(self) -> Path | None:
        """What its environment has; None for the one that runs this."""
        return None if self.is_ours else Path(__file__).parent / "requirements" / f"{self.name}.txt"

    def command(self, start: Start) -> list[str]:
        """What starts it."""
        if self.is_ours:
            return [start.python, *_gateway(start)]
        words = {"port": str(start.port), "workers": str(start.workers)}
        return [start.python, "-m", self.module, *(flag.format(**words) for flag in self.flags)]


def environment(start: Start) -> dict[str, str]:
    """What a service is told."""
    return {
        "BENCH_WORKLOAD": start.workload,
        "BENCH_PROGRAMS": str(start.programs),
        "BENCH_WORKERS": str(start.workers),
        "BENCH_PORT": str(start.port),
        "BENCH_TEMP": str(start.folder / "t"),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PATH": f"{Path(start.python).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(start.folder),
        # None of them is to tell anybody of this.
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(start.folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_DISABLE_MEMORY_MONITOR": "1",
    }


# Milliseconds that our batches wait for more rows. The others' wait for two.
OUR_WAIT = {"tiny": 0, "mlp784": 0, "transformer": 2}


def model_settings(workload: str, *, is_cached: bool) -> str:
    """Our model.toml. Rows are remembered only where that is what is measured."""
    lines = ["max_batch = 32", f"max_wait_ms = {OUR_WAIT[workload]}"]
    return "\n".join([*lines, *([] if is_cached else ["cache_size = 0"]), ""])


def _gateway(start: Start) -> list[str]:
    flags = {
        "addr_rest": f"127.0.0.1:{start.port}",
        "addr_service": f"ipc://{start.folder}/service",
        "addr_worker": f"ipc://{start.folder}/link",
        "workers": str(start.workers),
        "threads": "1",
        "models": str(start.folder / "models"),
        "state": str(start.folder / "state"),
        "log_level": "warning",
    }
    if start.variant == "gateways":
        flags["processes"] = "2"
    return [str(ROOT / "gw.py"), *(word for name, value in flags.items() for word in (f"--{name}", value))]


_SERVICES = "bench.peers.services"
_UVICORN = (
    f"{_SERVICES}.starlette:app", "--host", "127.0.0.1", "--port", "{port}", "--workers", "{workers}",
    "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
    "--backlog", "4096",
)  # fmt: skip
_BENTOML = (
    "serve", f"{_SERVICES}.bentoml:Predict", "--host", "127.0.0.1", "--port", "{port}", "--backlog", "4096",
    "--quiet",
)  # fmt: skip
# Its own limit is 3 s, after which it answers 408; the others' is a minute.
_MOSEC = ("--address", "127.0.0.1", "--port", "{port}", "--log-level", "warning", "--timeout", "60000")

PEERS = {
    each.name: each
    for each in (
        Peer(OURS, "Pipeline", "", "", "v1", None, 2.0),
        Peer("mosec", "Mosec", "mosec", f"{_SERVICES}.mosec", "mosec", None, 4.0, _MOSEC),
        Peer("litserve", "LitServe", "litserve", f"{_SERVICES}.litserve", "litserve", None, 5.5),
        Peer(
            "mlserver", "MLServer", "mlserver", f"{_SERVICES}.mlserver", "v2", "/v2/models/{}/infer", 8.0
        ),
        Peer("bentoml", "BentoML", "bentoml", "bentoml", "bentoml", None, 6.0, _BENTOML),
        Peer("rayserve", "Ray Serve", "ray", f"{_SERVICES}.rayserve", "rayserve", "/predict", 17.0),
        Peer(
            "starlette", "Starlette by hand", "starlette", "uvicorn", "starlette", None, 2.5, _UVICORN
        ),
    )
}  # fmt: skip
OTHERS = tuple(name for name in PEERS if name != OURS)
# Servers that have workers apart from what speaks HTTP, and batches: the others that ours is one of.
WITH_WORKERS = tuple(name for name in OTHERS if name != "starlette")
DOORS = {"": "v1", "gateways": "v1", "binary": "v2-binary"}  # of ours
VARIANTS = {"": "", "gateways": "two gateway processes", "binary": "V2 in binary"}
