"""Collaboration: the launcher that the settings ask for, or a sentence."""

from __future__ import annotations

import re
import sys
from contextlib import asynccontextmanager
from types import ModuleType

import pytest

from common.errors import PipelineError
from common.settings import Scale
from gateway.launchers import choose
from gateway.launchers.choose import Hiring, open_launcher
from gateway.launchers.launcher import WorkerSpec
from gateway.launchers.local import LocalLauncher

NOBODY = Scale(0, 0, 0)


def hiring(**how):
    return Hiring(spec=WorkerSpec(service="shop"), scale=NOBODY, **how)


async def test_local_workers_need_nothing_and_a_gateway_without_any_starts_no_process():
    async with open_launcher(hiring(), None) as launcher:
        assert isinstance(launcher, LocalLauncher)
        assert await launcher.alive() == {}


@pytest.mark.parametrize("name", ["ray", "kubernetes"])
async def test_a_launcher_whose_library_is_missing_names_the_extra(monkeypatch, name):
    monkeypatch.setitem(choose.ELSEWHERE, name, ("no_such_library", "open"))
    sentence = f"--launcher {name} needs no_such_library: pip install 'pipeline-inference[{name}]'"
    with pytest.raises(PipelineError, match=re.escape(sentence)):
        async with open_launcher(hiring(launcher=name), None):
            pass


async def test_another_launcher_is_opened_with_its_own_options_and_closed(monkeypatch):
    said = []

    @asynccontextmanager
    async def open_it(**options):
        said.append(options)
        yield "a launcher"
        said.append("closed")

    module = ModuleType("some_engine")
    module.open_it = open_it
    monkeypatch.setitem(sys.modules, "some_engine", module)
    monkeypatch.setitem(choose.ELSEWHERE, "ray", ("some_engine", "open_it"))
    async with open_launcher(hiring(launcher="ray", options={"address": "10.0.0.1:6379"}), None) as launcher:
        assert launcher == "a launcher"
    assert said == [{"service": "shop", "address": "10.0.0.1:6379"}, "closed"]


async def test_a_failure_of_the_block_is_raised_as_it_is():
    with pytest.raises(PipelineError, match="no room"):
        async with open_launcher(hiring(), None):
            raise PipelineError("no room")


@pytest.mark.parametrize(
    ("how", "leaves"),
    [
        ({}, False),
        ({"keep": True}, True),
        ({"launcher": "ray"}, True),
        ({"launcher": "ray", "stop_workers": True}, False),
    ],
)
def test_who_outlives_the_gateway(how, leaves):
    assert hiring(**how).leaves_workers is leaves
