"""end to end: KServe's client, in a process of its own as its messages have the same names as tritonclient's.

kserve_grpc.py HOST:PORT
"""

from __future__ import annotations

import asyncio
import sys

from kserve import InferenceGRPCClient, InferInput, InferRequest


async def main(address: str) -> None:
    client = InferenceGRPCClient(address)
    try:
        live, ready = await client.is_server_live(), await client.is_server_ready()
        print("live", live, "ready", ready, "model", await client.is_model_ready("line"))
        row = InferInput("x", [1, 2], "FP32", data=[7.0, 5.0])
        answer = await client.infer(InferRequest("line", [row]))
        print("infer", answer.outputs[0].as_numpy().ravel().tolist())
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
