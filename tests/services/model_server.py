"""A model server in a process of its own, on a free port, stopped in good order at the end."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

import modelserver_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


class Running:
    """`stub` speaks to it; `stop` ends it with SIGTERM and gives its exit code and what else it said."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()
        found = re.match(r"The model server listens on \S+:(\d+)\. ", self.greeting)
        assert found is not None, self.greeting + self.stop()[1]
        self.port = int(found[1])
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.enable_http_proxy", 0)])
        self.stub = modelserver_pb2_grpc.ModelServerStub(self.channel)

    def stop(self) -> tuple[int, str]:
        self.process.terminate()
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out + err


@contextlib.contextmanager
def model_server(*flags: str, command: Sequence[str] = ("server.py", "--port", "0")) -> Iterator[Running]:
    """One that serves; afterwards it has stopped and said nothing but its greeting."""
    running = Running([*command, *flags])
    try:
        yield running
    finally:
        running.channel.close()
        if running.process.poll() is None:
            ended = running.stop()
            assert ended == (0, ""), ended
        for pipe in (running.process.stdin, running.process.stdout, running.process.stderr):
            assert pipe is not None
            pipe.close()
