"""Pure: each survey's answer by engine/planes/control.py, with the sample weights."""

import hashlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common import wire
from common.models import ModelSettings
from engine.planes import identity as identity_module
from engine.planes.control import ControlPlane
from engine.planes.counters import Counters
from engine.planes.data import DataPlane
from engine.planes.identity import Identity, host_addresses, identify
from engine.registry import Registry
from engine.runtimes import torch_state
from engine.runtimes.fake import FakeRuntime
from engine.staging import Staging

ME = "a" * 32


class Plane(ControlPlane):
    """A control plane with what is under it; `told` is what it told the service."""

    def __init__(self, *models: str) -> None:
        self.registry = Registry(device=torch.device("cpu"), cache_size=100)
        self.staging = Staging()
        self.counters = Counters()
        self.data = DataPlane(self.registry, self.staging, self.counters)
        self.told: list[str] = []
        super().__init__(
            Identity("bob", host="here", pid=7, id=ME),
            scheme="ipc",
            slots=2,
            registry=self.registry,
            staging=self.staging,
            counters=self.counters,
            data=self.data,
            on_link=self.told.append,
            on_drain=lambda: self.told.append("drain"),
            models=models,
        )

    def ask(self, message: wire.Message, *buffers: bytes) -> wire.Message | None:
        answer = self.handle(memoryview(wire.encode(message, buffers)))
        return None if answer is None else wire.decode(answer)[0]


@pytest.fixture
def plane():
    plane = Plane()
    yield plane
    plane.staging.close()


def test_hello_says_who_is_there_and_what_it_holds(plane, adding) -> None:
    plane.ask(wire.Load([ME], adding.key, len(adding.data)), adding.data)
    assert plane.ask(wire.Hello("gateway")) == wire.HelloAnswer(
        ME, "bob", "here", 7, "ipc", 2, "cpu", draining=False, caches=True, versions=[adding.key]
    )
    assert not plane.told_draining.is_set()


def test_hello_says_which_models_the_worker_may_hold(plane) -> None:
    assert plane.ask(wire.Hello("gateway")).models == []
    picky = Plane("iris", "text-*")
    assert picky.ask(wire.Hello("gateway")).models == ["iris", "text-*"]
    picky.staging.close()


def test_versions_of_many_models_are_held_beside_each_other(plane, adding) -> None:
    keys = [wire.VersionKey(model, "1", adding.key.sha256) for model in ("iris", "mnist")]
    for key in keys:
        assert plane.ask(wire.Load([ME], key, len(adding.data)), adding.data).ok
    assert plane.ask(wire.Hello("gateway")).versions == keys
    plane.ask(wire.Drop([ME], "iris", "1"))
    assert plane.ask(wire.Status()).versions == keys[1:]


def test_hello_of_a_draining_worker_says_so_and_remembers_that_it_was_said(plane) -> None:
    plane.data.drain(0.0)
    assert plane.ask(wire.Hello("gateway")).draining is True
    assert plane.told_draining.is_set()


def test_a_link_is_opened_where_the_gateway_says(plane) -> None:
    assert plane.ask(wire.LinkUp({ME: "/link/1", "other": "/link/2"})) == wire.Done(ME)
    assert plane.ask(wire.LinkUp({"other": "/link/2"})) is None
    assert plane.told == ["/link/1"]


def test_drain_and_commit_and_drop_are_done_by_who_is_named(plane, adding) -> None:
    plane.registry.load(adding.key, adding.data)
    for survey in (
        wire.Commit(["other"], "default", "adding"),
        wire.Drop([], "default", "adding"),
        wire.Drain([]),
    ):
        assert plane.ask(survey) is None
    assert plane.registry.versions() == [adding.key]
    assert plane.ask(wire.Commit([ME], "default", "adding")) == wire.Done(ME)
    assert plane.ask(wire.Drop(["other", ME], "default", "adding")) == wire.Done(ME)
    assert plane.registry.versions() == []
    assert plane.ask(wire.Drop([ME], "default", "adding")) == wire.Done(ME)
    assert plane.ask(wire.Drain([ME])) == wire.Done(ME)
    assert plane.told == ["drain"]


def test_status_gives_the_counters(plane) -> None:
    plane.counters.count(requests=3, rows=4, handling=0.25, infer=0.125)
    status = plane.ask(wire.Status())
    assert isinstance(status, wire.StatusAnswer)
    assert (status.worker, status.requests, status.rows) == (ME, 3, 4)
    assert (status.handling_mean, status.infer_mean, status.p50, status.p99) == (0.25, 0.125, 0.25, 0.25)
    assert (status.cache_size, status.cache_capacity, status.cache_hits, status.cache_misses) == (0, 0, 0, 0)
    assert status.addresses == host_addresses()
    assert status.rss > 10 << 20


# --- weights


def test_weights_load_from_the_survey_itself(plane, adding, loaded) -> None:
    load = wire.Load([ME], adding.key, len(adding.data))
    assert plane.ask(load, adding.data) == loaded(ME)
    assert plane.registry.versions() == [adding.key]


def test_weights_load_from_a_file(plane, adding, tmp_path: Path, loaded) -> None:
    path = tmp_path / "weights"
    path.write_bytes(adding.data)
    assert plane.ask(wire.Load([ME], adding.key, len(adding.data), str(path))) == loaded(ME)
    answer = plane.ask(wire.Load([ME], wire.VersionKey("default", "2", "0" * 64), 1, str(tmp_path / "none")))
    assert isinstance(answer, wire.LoadAnswer)
    assert not answer.ok
    assert answer.trace.splitlines()[-1] == (
        "common.errors.LoadError: the weights cannot be read: No such file or directory"
    )


def test_weights_load_from_chunks_that_came_before_and_leave_nothing(plane, adding, loaded) -> None:
    for at in range(0, len(adding.data), 1000):
        chunk = wire.Chunk(adding.key.sha256, len(adding.data), at)
        plane.data.handle(memoryview(wire.encode(chunk, [adding.data[at : at + 1000]])))
    before = len(os.listdir("/proc/self/fd"))
    assert plane.ask(wire.Load([ME], adding.key, len(adding.data))) == loaded(ME)
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert plane.registry.get("default", "adding")


def test_weights_for_others_are_not_loaded(plane, adding) -> None:
    assert plane.ask(wire.Load(["other"], adding.key, len(adding.data)), adding.data) is None
    assert plane.registry.versions() == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (b"random", "the file is of none of the known formats: "),
        (None, "the weights did not arrive"),
    ],
)
def test_weights_that_do_not_load_are_answered_with_a_stack_trace_and_the_rest_serves(
    plane, adding, data: bytes | None, sentence: str
) -> None:
    plane.registry.load(adding.key, adding.data)
    key = wire.VersionKey("default", "bad", hashlib.sha256(data or b"").hexdigest())
    answer = plane.ask(wire.Load([ME], key, 5), *([] if data is None else [data]))
    assert isinstance(answer, wire.LoadAnswer)
    assert (answer.worker, answer.ok) == (ME, False)
    assert answer.trace.splitlines()[0].startswith("Traceback (most recent call last):")
    assert f"common.errors.LoadError: {sentence}" in answer.trace
    assert plane.registry.versions() == [adding.key]
    assert plane.registry.get("default", "adding")


def test_a_load_that_fails_as_nobody_foresaw_is_answered_too(plane, adding, monkeypatch, caplog) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(torch_state, "load", fail)
    answer = plane.ask(wire.Load([ME], adding.key, len(adding.data)), adding.data)
    assert (answer.ok, answer.trace.splitlines()[-1]) == (False, "MemoryError: no room")
    assert [record.getMessage() for record in caplog.records] == ["weights could not be loaded"]


def test_heartbeats_and_status_are_answered_while_weights_load(plane, adding, monkeypatch) -> None:
    loading, finish = threading.Event(), threading.Event()

    def slow(*_: object) -> FakeRuntime:
        loading.set()
        assert finish.wait(30)
        return FakeRuntime()

    monkeypatch.setattr(torch_state, "load", slow)
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(plane.ask, wire.Load([ME], adding.key, len(adding.data)), adding.data)
        assert loading.wait(10)
        assert plane.ask(wire.Hello("gateway")).versions == []
        assert isinstance(plane.ask(wire.Status()), wire.StatusAnswer)
        finish.set()
        assert load.result(10).ok


# --- what nobody should ask


def test_what_is_no_survey_is_not_answered_and_logged_once(plane, caplog) -> None:
    for frame in (b"", b"random bytes", wire.encode(wire.Done("x")), wire.encode(wire.ChunkStored("x", 1))):
        assert plane.handle(memoryview(frame)) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].getMessage().startswith("bad frame in a survey error=")


def test_a_fault_of_ours_is_not_answered_and_logged(plane, caplog) -> None:
    def fail(endpoint: str) -> None:
        raise ValueError("no such port")

    plane._on_link = fail
    assert plane.ask(wire.LinkUp({ME: "x"})) is None
    assert [record.getMessage() for record in caplog.records] == [
        'a survey could not be answered error="ValueError: no such port" more=0'
    ]


@pytest.fixture(scope="module")
def shared_plane():
    """One plane for all of a property's examples."""
    plane = Plane()
    yield plane
    plane.staging.close()


surveys = [
    wire.Hello("g"),
    wire.Status(),
    wire.LinkUp({ME: "/link/1"}),
    wire.Load([ME], wire.VersionKey("m", "v", "0" * 64), 4),
    wire.Load([ME], wire.VersionKey("m", "v", "0" * 64), 4, "/nowhere\0at all"),
    wire.Commit([ME], "m", "v"),
    wire.Drop([ME], "m", "v"),
    wire.Drain([ME]),
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(surveys),
    st.lists(st.binary(max_size=9), max_size=2),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5),
)
def test_whatever_becomes_of_a_survey_on_its_way_nothing_is_raised(
    shared_plane, survey, buffers, changes
) -> None:
    frame = bytearray(wire.encode(survey, buffers))
    for at, value in changes:
        frame[at % len(frame)] = value
    answer = shared_plane.handle(memoryview(frame))
    assert answer is None or isinstance(wire.decode(answer)[0], wire.Message)


# --- who a worker is


def test_a_worker_is_called_what_it_is_told_or_after_its_host_and_process() -> None:
    assert identify("bob").name == "bob"
    unnamed = identify(None)
    assert unnamed.name == f"{unnamed.host}-{os.getpid()}"
    assert len(unnamed.id) == 32
    assert identify(None).id != unnamed.id


def test_addresses_are_read_from_interfaces_that_lack_families_or_vanish(monkeypatch) -> None:
    v4, v6 = identity_module.netifaces.AF_INET, identity_module.netifaces.AF_INET6
    interfaces = {
        "lo": {v4: [{"addr": "127.0.0.1"}], v6: [{"addr": "::1"}]},
        "eth0": {v4: [{"addr": "192.0.2.7"}, {"peer": "192.0.2.8"}], v6: [{"addr": "fe80::1%eth0"}]},
        "bare": {},
        "twin": {v4: [{"addr": "192.0.2.7"}]},
    }

    def families(name: str) -> object:
        if name == "gone":
            raise ValueError("You must specify a valid interface name.")
        return interfaces[name]

    monkeypatch.setattr(identity_module.netifaces, "interfaces", lambda: [*interfaces, "gone"])
    monkeypatch.setattr(identity_module.netifaces, "ifaddresses", families)
    assert host_addresses() == ["192.0.2.7", "fe80::1", "127.0.0.1", "::1"]


# --- a version loaded by other settings


def load(plane: Plane, weights: object, settings: ModelSettings, *, staged: bool = True) -> wire.VersionKey:
    key = wire.VersionKey("default", weights.key.version, weights.key.sha256, settings.loaded_as)
    survey = wire.Load([ME], key, len(weights.data), settings=settings, staged=staged)
    assert plane.ask(survey, weights.data).ok
    return key


def test_a_commit_says_which_of_two_stays(plane, adding) -> None:
    plane.ask(wire.Hello("gateway"))
    small, large = ModelSettings(max_batch=2), ModelSettings(max_batch=4)
    old = load(plane, adding, small, staged=False)
    new = load(plane, adding, large)
    assert plane.ask(wire.Hello("gateway")).versions == [old]
    assert plane.ask(wire.Commit([ME], "default", "adding", large.loaded_as)) == wire.Done(ME)
    assert plane.ask(wire.Hello("gateway")).versions == [new]
    load(plane, adding, small)
    plane.ask(wire.Commit([ME], "default", "adding", large.loaded_as))
    plane.ask(wire.Commit([ME], "default", "adding", small.loaded_as))
    assert plane.ask(wire.Status()).versions == [new]


def test_what_a_gateway_staged_that_was_killed_is_forgotten(plane, adding) -> None:
    plane.ask(wire.Hello("killed"))
    old = load(plane, adding, ModelSettings(), staged=False)
    by = load(plane, adding, ModelSettings(max_batch=4)).settings
    plane.ask(wire.Hello("new"))
    plane.ask(wire.Commit([ME], "default", "adding", by))
    assert plane.ask(wire.Status()).versions == [old]
