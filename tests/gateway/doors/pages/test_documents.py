"""Collaboration: the document and its page over ASGI; what they load, and who may keep them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from configparser import ConfigParser
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from gateway.core import Doors
from gateway.doors.pages.documents import PARTS, STATIC
from tests.gateway.site import open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

ALL = ["/openapi.json", "/docs", "/docs/docs.css", "/docs/docs.js"]


@asynccontextmanager
async def open_client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_site() as site:
        transport = httpx.ASGITransport(Doors(site, max_upload=1000).app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client


@pytest.mark.parametrize("path", ALL)
async def test_whoever_has_it_is_told_so(path):
    async with open_client() as client:
        first = await client.get(path)
        assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
        for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
            again = await client.get(path, headers={"if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == first.headers["etag"]
        other = await client.get(path, headers={"if-none-match": '"other"'})
        assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize("path", ALL)
async def test_it_is_sent_compressed_to_who_can_read_that(path):
    async with open_client() as client:
        packed = await client.get(path)
        plain = await client.get(path, headers={"accept-encoding": "identity"})
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert packed.content == plain.content
        assert packed.headers["etag"] != plain.headers["etag"]  # other bytes
        assert packed.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ALL)
async def test_a_page_may_load_nothing_from_elsewhere(path):
    async with open_client() as client:
        policy = (await client.get(path)).headers["content-security-policy"]
        assert policy.startswith(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
        )
        assert "unsafe" not in policy


async def test_the_page_names_its_own_parts_and_no_other_place():
    async with open_client() as client:
        page = (await client.get("/docs")).text
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    assert named == {"docs/docs.css", "docs/docs.js", "openapi.json", "data:,"}
    for part in STATIC.glob("docs.*"):
        assert not re.search(r"https?://(?!www\.w3\.org/)", part.read_text()), part


async def test_other_parts_are_not_there():
    async with open_client() as client:
        answer = await client.get("/docs/secret.txt")
        assert answer.status_code == 404
        assert answer.json() == {
            "status": False,
            "message": "there is no secret.txt here: docs.css and docs.js are",
        }


def test_an_installed_gateway_has_every_part():
    config = ConfigParser()
    config.read(Path(__file__).parents[4] / "setup.cfg")
    listed = [each.strip() for each in config["options.package_data"]["gateway"].split(",")]
    there = {path.relative_to(STATIC.parent) for path in STATIC.glob("*") if path.is_file()}
    assert {STATIC.name + "/" + name for name in [*PARTS, "docs.html"]} == {str(path) for path in there}
    assert all(any(path.match(pattern) for pattern in listed) for path in there)
