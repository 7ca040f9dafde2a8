"""A load of gRPC inferences, in a process of its own: `python -m bench.grpc_load ADDRESS CLIENTS SECONDS`.

Prints one line of JSON. The messages are made beforehand: of a call, this client's part is only gRPC's own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import struct
import sys
import time

import grpc
from tritonclient.grpc import service_pb2

METHOD = "/inference.GRPCInferenceService/ModelInfer"
POOL = 5000
CHANNELS = 8


def messages() -> list[bytes]:
    """Requests for the sample network, each of another row."""
    pool = []
    for _ in range(POOL):
        request = service_pb2.ModelInferRequest(model_name="default")
        request.inputs.add(name="vector", datatype="FP32", shape=[1, 2])
        request.raw_input_contents.append(struct.pack("<2f", random.random(), random.random()))
        pool.append(request.SerializeToString())
    return pool


async def drive(address: str, clients: int, seconds: float) -> dict[str, float]:
    """Closed-loop clients; requests, and their rate and percentiles in seconds."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(min(clients, CHANNELS))]
    pool, took = itertools.cycle(messages()), []
    began = time.perf_counter()

    async def client(n: int) -> None:
        call = channels[n % len(channels)].unary_unary(METHOD)
        while (start := time.perf_counter()) < began + seconds:
            await call(next(pool))
            took.append(time.perf_counter() - start)

    await asyncio.gather(*map(client, range(clients)))
    spent = time.perf_counter() - began
    for channel in channels:
        await channel.close()
    took.sort()
    p50, p99 = (took[int(len(took) * part)] for part in (0.5, 0.99))
    return {"requests": len(took), "rate": len(took) / spent, "p50": p50, "p99": p99}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(drive(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
