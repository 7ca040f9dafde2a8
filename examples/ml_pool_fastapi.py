"""An API with a CPU-hungry model beside its event loop: FastAPI on uvicorn, which is asyncio.

pip install "pipeline-inference[pool]" fastapi uvicorn websockets
python examples/ml_pool_fastapi.py --port 8000
curl http://127.0.0.1:8000/primes -d '{"below": 100000}' -H 'Content-Type: application/json'
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field

import ml_pool
from ml_pool import MLPool
from ml_pool.exceptions import JobTimedOut, MLPoolError, UserProvidedCallableFailedError


class Sieve:
    """Stands for a model: slow to ask, and in Python, so that no thread could help."""

    def count(self, below: int, step: int = 10_000) -> int:
        found = 0
        for number in range(2, below):
            if number % step == 0:
                ml_pool.report(number / below)
            found += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        return found


def load_sieve() -> Sieve:
    return Sieve()


def count_primes(sieve: Sieve, below: int) -> int:
    if below > 10_000_000:
        raise ValueError("that would take an hour")
    return sieve.count(below)


class Question(BaseModel):
    below: int = Field(ge=0)


@asynccontextmanager
async def open_pool(app: FastAPI) -> AsyncIterator[None]:
    async with MLPool({"sieve": load_sieve}, nb_workers=2) as app.state.pool:
        yield


app = FastAPI(lifespan=open_pool)


@app.post("/primes")
async def primes(question: Question) -> dict[str, int]:
    """Bounded: a full queue is said at once, and no job takes longer than ten seconds."""
    pool: MLPool = app.state.pool
    job_id = await pool.create_job_async(
        count_primes, "sieve", (question.below,), wait_if_full=False, timeout=10.0
    )
    if job_id is None:
        raise HTTPException(503, "busy", {"Retry-After": "1"})
    try:
        return {"primes": await pool.get_result_async(job_id)}
    except UserProvidedCallableFailedError as error:
        raise HTTPException(400, str(error.__cause__)) from error
    except JobTimedOut as error:
        raise HTTPException(504, str(error)) from error
    except MLPoolError as error:
        raise HTTPException(500, str(error)) from error


@app.websocket("/primes")
async def primes_of_many(websocket: WebSocket) -> None:
    """A number in, a count out, and so on. When the client goes, its job is cancelled."""
    import asyncio

    pool: MLPool = app.state.pool
    await websocket.accept()
    job = None
    try:
        while True:
            job = asyncio.wrap_future(pool.submit(count_primes, "sieve", int(await websocket.receive_text())))
            gone = asyncio.ensure_future(websocket.receive())
            await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not job.done():  # the client left, or said more than it may
                break
            gone.cancel()
            await websocket.send_text(str(job.result()))
    except WebSocketDisconnect:
        pass
    finally:
        if job is not None:
            job.cancel()


@app.get("/statistics")
def statistics() -> dict[str, Any]:
    found: dict[str, Any] = app.state.pool.statistics()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Count primes, in a pool of processes.")
    parser.add_argument("--port", type=int, default=8000)
    uvicorn.run(app, port=parser.parse_args().port)


if __name__ == "__main__":
    main()
