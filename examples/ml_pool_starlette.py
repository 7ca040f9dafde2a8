"""The same under trio: Starlette on Hypercorn. A client that leaves takes its job with it.

pip install "pipeline-inference[pool]" starlette hypercorn trio
python examples/ml_pool_starlette.py --port 8001
curl http://127.0.0.1:8001/primes -d '{"below": 100000}'
"""

from __future__ import annotations

import argparse
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ml_pool import MLPool
from ml_pool.exceptions import UserProvidedCallableFailedError


class Sieve:
    """Stands for a model: slow to ask, and in Python, so that no thread could help."""

    def count(self, below: int) -> int:
        return sum(
            all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, below)
        )


def load_sieve() -> Sieve:
    return Sieve()


def count_primes(sieve: Sieve, below: int) -> int:
    return sieve.count(below)


async def primes(request: Request) -> Response:
    """Awaiting the future: whoever is cancelled here cancels the job."""
    pool: MLPool = request.app.state.pool
    below = (await request.json())["below"]
    answer: dict[str, Any] = {}

    async def count(scope: trio.CancelScope) -> None:
        try:
            answer["primes"] = await pool.submit(count_primes, "sieve", below)
        except UserProvidedCallableFailedError as error:
            answer["error"] = str(error.__cause__)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, nursery.cancel_scope)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        nursery.cancel_scope.cancel()
    return JSONResponse(answer, 400 if "error" in answer else 200)


async def statistics(request: Request) -> Response:
    return JSONResponse(request.app.state.pool.statistics())


async def run(port: int) -> None:
    app = Starlette(
        routes=[Route("/primes", primes, methods=["POST"]), Route("/statistics", statistics)],
    )
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    async with MLPool({"sieve": load_sieve}, nb_workers=2) as app.state.pool:
        await serve(app, config)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description="Count primes, in a pool of processes.")
    parser.add_argument("--port", type=int, default=8001)
    trio.run(run, parser.parse_args().port)


if __name__ == "__main__":
    main()
