"""Collaboration: whose jobs are whose, over REST of a gateway in memory; virtual time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from common.tokens import make_token
from gateway.auth.asking import CLIENT
from gateway.auth.clients import Client as Holder
from tests.gateway.doors.test_rest import Client, open_client, refusal

pytestmark = pytest.mark.usefixtures("virtual_time")


class Asking:
    """Who asks with a token, once it is proven."""

    def __init__(self, client: Client, role: Any) -> None:
        self.holder = Holder(make_token(role, time.time())[0])

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await client.app({**scope, CLIENT: self.holder}, receive, send)

        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")

    async def ask(self, method: str, path: str, **how: Any) -> tuple[int, Any]:
        response = await self.http.request(method, path, **how)
        return response.status_code, response.json()

    async def submit(self, key: str = "") -> str:
        headers = {"idempotency-key": key} if key else {}
        status, job = await self.ask("POST", "/jobs", json={"vector": [1.0, 2.0]}, headers=headers)
        assert (status, job["owner"]) == (202, self.holder.id)
        name: str = job["id"]
        return name

    async def listed(self, query: str = "") -> list[str]:
        _, page = await self.ask("GET", f"/jobs{query}")
        return [job["id"] for job in page["jobs"]]


@asynccontextmanager
async def asking(*roles: str) -> AsyncIterator[list[Any]]:
    """The client without a token, and one of each role; jobs wait, as there is no worker."""
    async with open_client() as client:
        await client.set_weights(b"2")
        yield [client, *(Asking(client, role) for role in roles)]


async def test_a_job_is_its_owner_s_and_to_others_as_if_it_were_not_there():
    async with asking("predict", "predict", "read", "admin") as (client, me, other, reader, admin):
        job = await me.submit()
        for path, method in (
            (f"/jobs/{job}", "GET"),
            (f"/jobs/{job}", "DELETE"),
            (f"/jobs/{job}/result", "GET"),
        ):
            assert await other.ask(method, path) == (404, refusal(f"there is no job {job}"))
        for each in (me, reader, admin, client):  # without tokens everybody may do everything
            assert (await each.ask("GET", f"/jobs/{job}"))[1]["owner"] == me.holder.id
        for each in (me, admin, client):
            status, _ = await each.ask("GET", f"/jobs/{job}/result")
            assert status == 202
        status, said = await me.ask("DELETE", f"/jobs/{job}")
        assert (status, said["state"]) == (200, "cancelled")


async def test_who_predicts_is_shown_its_own_jobs_and_who_looks_all_of_them():
    async with asking("predict", "predict", "read", "admin") as (client, me, other, reader, admin):
        mine = [await me.submit() for _ in range(3)]
        hers = await other.submit()
        assert await me.listed() == mine[::-1]
        assert await me.listed("?limit=2") == mine[:0:-1]
        assert await other.listed() == [hers]
        for each in (reader, admin):
            assert await each.listed() == [hers, *mine[::-1]]
        _, page = await client.ask("GET", "/jobs")
        assert len(page["jobs"]) == 4


async def test_a_key_is_its_owner_s():
    async with asking("predict", "predict") as (_, me, other):
        job = await me.submit("order-1")
        assert await me.submit("order-1") == job
        assert await other.submit("order-1") != job


async def test_who_waits_for_a_job_is_told_within_a_second_that_the_token_is_revoked():
    async with asking("predict") as (_, me):
        job = await me.submit()
        async with trio.open_nursery() as nursery:
            said: list[Any] = []

            async def wait() -> None:
                began = trio.current_time()
                said.append((await me.ask("GET", f"/jobs/{job}/result?wait=60"), trio.current_time() - began))

            nursery.start_soon(wait)
            await trio.sleep(10)
            assert said == []
            me.holder.revoke()
        [(answer, waited)] = said
        assert answer == (401, refusal("the token was revoked"))
        assert 10 <= waited < 11
