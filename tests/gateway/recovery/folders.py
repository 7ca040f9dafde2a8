"""State directories with something in them, and ways to damage them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from common.tensor import TensorSpec
from gateway.experiments.plans import Plan, Record
from gateway.jobs.job import Chunk, Event, Job
from gateway.state.state import State, VersionRecord, open_state
from gateway.state.state_folder import DATABASE

JOB = Job(id="j1", model="m", version="2", nn_id="2", shape="vectors", ttl=3600.0, created=1e9, rows_total=2)
OUTPUTS = (TensorSpec("result", "FP32", (1,)),)


def fill(directory: Path, versions: int = 3) -> dict[str, Path]:
    """Versions 1 to `versions` of m, the last of them active, and a job with its answers; the files by what
    they are: each version's by its name, `rows` and `answers`."""
    with open_state(directory) as state:
        files = {str(n): add(state, str(n)) for n in range(1, versions + 1)}
        for version in files:
            state.activate("m", version)
        state.put_experiment("trial", experiment(), "m", ["1", "2"])
        state.kept.put("autoscaler", b"{}")
        job, _ = state.jobs.add(JOB, "key", b"the rows")
        state.jobs.happen(job.id, Event.START, 1e9)
        chunk = Chunk(number=0, first=0, rows=2, failed=0, position=2)
        state.jobs.put_chunk(job, chunk, b"the answers", OUTPUTS)
        state.jobs.happen(job.id, Event.FINISH, 1e9)
        rows, answers = sorted((directory / "job_blobs").glob("??/*"), key=lambda path: path.stat().st_size)
        return files | {"rows": rows, "answers": answers}


def add(state: State, version: str, size: int = 1000) -> Path:
    """One more version of m."""
    with state.blobs.new() as writer:
        writer.write(version.encode() * size)
        blob = writer.commit()
    state.add_version(VersionRecord("m", version, version, blob.sha256, blob.size, 1.5, checked=True))
    return blob.path


def experiment() -> bytes:
    """One between versions 1 and 2 of m."""
    return msgspec.json.encode(
        Record(name="trial", plan=Plan(model="m", arms={"1": 50.0, "2": 50.0}), runs={})
    )


def damage(path: Path) -> None:
    """Turn one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def everything(directory: Path) -> dict[str, bytes]:
    """What is in each file of the folder, but for those that SQLite and the lock make of themselves."""
    own = {"lock", f"{DATABASE}-shm", f"{DATABASE}-wal"}
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name not in own]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}
