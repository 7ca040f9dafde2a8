"""end to end: KServe's client over REST, in a process of its own as its messages have the same names as
tritonclient's.

kserve_rest.py URL binary|json
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(url: str, form: str) -> None:
    tensor = InferInput("x", [2, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 2], [3, 4]], np.float32), binary_data=form == "binary")
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        print("live", await client.is_server_live(url), "ready", await client.is_server_ready(url))
        models = [await client.is_model_ready(url, name) for name in ("linear", "nothing")]
        print("models", *models)
        request = InferRequest("linear", [tensor], request_id="mine")
        response = await client.infer(url, request, model_name="linear")
        print(response.id, response.outputs[0].as_numpy().tolist())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
