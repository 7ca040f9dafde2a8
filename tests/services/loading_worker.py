"""collaboration: a worker's two planes behind one socket, without a gateway: it tries files, loads them and
runs them as worker.py does, and dies as worker.py would.

    loading_worker.py FD    # frames of a survey (kind 1) or a batch (kind 2) come and are answered there
"""

from __future__ import annotations

import socket
import sys
from contextlib import closing

import torch

from common.channel import Channel
from engine.planes.control import ControlPlane
from engine.planes.counters import Counters
from engine.planes.data import DataPlane
from engine.planes.identity import identify
from engine.registry import Registry
from engine.runtimes.options import LoadOptions
from engine.staging import Staging
from engine.trials import open_trials

SURVEY, BATCH = 1, 2


def main() -> None:
    torch.set_num_threads(1)
    with open_trials(LoadOptions()) as trials, closing(Staging()) as staging:
        registry = Registry(device=torch.device("cpu"), cache_size=0)
        counters = Counters()
        data = DataPlane(registry, staging, counters)
        control = ControlPlane(
            identify("loading"),
            scheme="ipc",
            slots=1,
            registry=registry,
            staging=staging,
            counters=counters,
            data=data,
            on_link=lambda path: None,
            on_drain=lambda: None,
            trials=trials,
        )
        planes = {SURVEY: control.handle, BATCH: data.handle}
        channel = Channel(socket.socket(fileno=int(sys.argv[1])))
        while (frame := channel.receive()) is not None:
            channel.send(frame.kind, planes[frame.kind](memoryview(frame.body)) or b"")


if __name__ == "__main__":
    main()
