"""Collaboration: the dashboard's files over ASGI: what they load, how large they are, who may show them."""

from __future__ import annotations

import gzip
import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from gateway.doors.pages.dashboard import FOLDER
from tests.gateway.doors.pages.test_documents import open_client

pytestmark = pytest.mark.usefixtures("virtual_time")

PARTS = sorted(path.name for path in FOLDER.iterdir())
OURS = [name for name in PARTS if not name.startswith("uplot.")]
MOST = 150 << 10
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "txt": "text/plain"}


def test_all_of_it_is_small():
    packed = {name: len(gzip.compress((FOLDER / name).read_bytes(), 9)) for name in PARTS}
    assert sum(packed.values()) <= MOST, packed


async def test_every_file_is_there_as_what_it_is():
    async with open_client() as client:
        page = await client.get("/dashboard")
        assert page.headers["content-type"].startswith("text/html")
        assert page.content == (FOLDER / "dashboard.html").read_bytes()
        for name in PARTS:
            answer = await client.get(f"/dashboard/{name}")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(KINDS[name.rpartition(".")[2]])
            assert answer.headers["content-encoding"] == "gzip"
            assert answer.content == (FOLDER / name).read_bytes()


async def test_others_are_not():
    async with open_client() as client:
        for name in ("secret.js", "..%2Fdocs.html", "%2e%2e", ""):
            assert (await client.get(f"/dashboard/{name}")).status_code == 404


async def test_it_may_load_and_ask_its_own_gateway_and_be_shown_nowhere_else():
    async with open_client() as client:
        headers = (await client.get("/dashboard")).headers
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"


def test_whatever_a_file_names_is_there():
    page = (FOLDER / "dashboard.html").read_text()
    named = {
        name.removeprefix("dashboard/") for name in re.findall(r'(?:src|href)="(dashboard/[^"]+)"', page)
    }
    for name in OURS:
        named |= set(re.findall(r'from "\./([^"]+)"', (FOLDER / name).read_text()))
    assert named | {"dashboard.html", "uplot.LICENSE.txt"} == set(PARTS)


def test_nothing_is_inline_or_from_elsewhere():
    for name in OURS:
        text = (FOLDER / name).read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), name
        assert "innerHTML" not in text, name
    page = (FOLDER / "dashboard.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", page)


def test_files_of_ours_are_short():
    assert {
        name: lines for name in OURS if (lines := len((FOLDER / name).read_text().splitlines())) > 200
    } == {}


def test_what_is_not_ours_has_its_licence_beside_it():
    licence = (FOLDER / "uplot.LICENSE.txt").read_text()
    version = re.search(r"uPlot \(v([0-9.]+)\)", (FOLDER / "uplot.js").read_text()[:200])
    assert version is not None
    assert licence.startswith(f"uPlot {version[1]} ")
    assert "The MIT License (MIT)" in licence


def test_an_installed_gateway_has_every_file():
    config = ConfigParser()
    config.read(Path(__file__).parents[4] / "setup.cfg")
    listed = [each.strip() for each in config["options.package_data"]["gateway"].split(",")]
    there = [path.relative_to(FOLDER.parents[1]) for path in FOLDER.iterdir()]
    assert all(any(path.match(pattern) for pattern in listed) for path in there)
