"""Pure, and over ASGI: pages of other sites change nothing, whether the gateway has tokens or not."""

from __future__ import annotations

import httpx
import pytest

from gateway.auth.origins import is_foreign
from gateway.core import Doors
from tests.gateway.site import open_site

PAGE = "https://app.example.com"


@pytest.mark.parametrize(
    ("origin", "host", "foreign"),
    [
        (None, b"gateway", False),
        (b"http://gateway:80", b"gateway", False),
        (b"https://gateway", b"gateway:443", False),
        (b"http://GATEWAY:54321", b"gateway:54321", False),
        (b"https://app.example.com", b"gateway", False),
        (b"http://gateway:8080", b"gateway", True),
        (b"https://evil.example.com", b"gateway", True),
        (b"null", b"gateway", True),
        (b"null", b"", True),
        (b"", b"gateway", True),
    ],
)
def test_a_page_is_of_this_server_named_or_foreign(origin, host, foreign):
    assert is_foreign(origin, host, {PAGE.encode()}) is foreign


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/default/unload"),
        ("POST", "/models/default/rollback"),
        ("POST", "/fleet/bob/drain"),
        ("PUT", "/set_weights"),
    ],
)
async def test_a_page_of_another_site_changes_nothing_and_looks_as_anybody(virtual_time, method, path):
    async with open_site() as site:
        app = Doors(site, max_upload=1000, cors_origins=[PAGE]).app
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
            evil = {"origin": "https://evil.example.com"}
            refused = await http.request(method, path, headers=evil)
            assert refused.status_code == 403
            assert "A page of https://evil.example.com may not change anything here" in refused.text
            proxied = {"origin": "https://public.example.com", "sec-fetch-site": "same-origin"}
            for mine in ({}, {"origin": PAGE}, {"origin": "http://gateway"}, proxied):
                assert (await http.request(method, path, headers=mine)).status_code != 403
            assert (await http.get("/status", headers=evil)).status_code == 200
