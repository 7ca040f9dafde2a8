"""Collaboration: REST for a model's settings, as an ASGI app over a gateway in memory; virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from common.model_file import MAX_CHARACTERS
from common.models import ModelSettings
from gateway.doors.models.settings import merged, replaced, shown
from tests.gateway.doors.models.test_models import OK, TRACE, put
from tests.gateway.doors.test_rest import Client, open_client, refusal

pytestmark = pytest.mark.usefixtures("virtual_time")


async def say(client: Client, body: Any, *, model: str = "iris", method: str = "PUT", query: str = "") -> Any:
    return await client.ask(method, f"/models/{model}{query}", json=body)


def answer(settings: Any, workers: int = 0) -> tuple[int, Any]:
    return 200, {
        **OK,
        "workers_count": workers,
        "workers": [{"result": True}] * workers,
        "settings": settings,
    }


async def test_settings_may_be_said_before_the_first_version_which_is_loaded_by_them():
    async with open_client() as client:
        worker = await client.site.ready_worker()
        said = {"architecture": "linear", "max_wait_ms": 5, "labels": ["a", "b"]}
        wanted = {**said, "max_wait_ms": 5.0}
        assert await say(client, said) == answer(wanted)
        assert await client.ask("GET", "/models/iris") == (
            200,
            {
                **OK, "name": "iris", "active": None, "previous": None, "settings": wanted, "versions": [],
                "input_type": "tensor", "output_type": "raw", "route": "/models/iris/tensor",
            },
        )  # fmt: skip
        await put(client, "iris/versions/1")
        settings = ModelSettings(architecture="linear", max_wait_ms=5.0, labels=("a", "b"))
        assert worker.settings["iris/1"] == settings
        assert client.site.catalog.active("iris").settings == settings


async def test_a_put_says_all_and_a_patch_what_changes():
    async with open_client() as client:
        await client.site.ready_worker()
        await put(client, "iris/versions/1")
        assert await say(client, {"max_batch": 8, "timeout": 5.0}) == answer(
            {"max_batch": 8, "timeout": 5.0}, 1
        )
        assert await say(client, {"queue_max": 9}, method="PATCH") == answer(
            {"max_batch": 8, "timeout": 5.0, "queue_max": 9}
        )
        assert await say(client, {"timeout": None}, method="PATCH") == answer(
            {"max_batch": 8, "queue_max": 9}
        )
        assert await say(client, {"queue_max": 9}) == answer({"queue_max": 9}, 1)
        assert await say(client, {}) == answer({})
        _, shown_ = await client.ask("GET", "/models/iris")
        assert (shown_["settings"], shown_["versions"][0]["settings"]) == ({}, {})


async def test_a_patch_of_a_table_changes_what_it_says_and_no_more():
    async with open_client() as client:
        await say(client, {"image": {"size": [8, 9], "fill": 7}}, method="PATCH")
        patch = {"image": {"size": None, "channels": "L"}}
        assert (await say(client, patch, method="PATCH"))[1]["settings"] == {
            "image": {"fill": 7, "channels": "L"}
        }
        assert (await say(client, {"image": None}, method="PATCH"))[1]["settings"] == {}
        status, said = await say(client, {"image": {"sise": 3}}, method="PATCH")
        assert (status, said["message"][:27]) == (400, "there is no setting image.s")


async def test_settings_that_a_worker_refuses_are_answered_with_its_trace_and_those_that_stay():
    async with open_client() as client:
        await client.site.ready_worker(lacks={"cuda"})
        await put(client, "iris/versions/1")
        await say(client, {"timeout": 5.0})
        assert await say(client, {"device": "cuda"}) == (
            200,
            {
                "status": False,
                "message": "One or more workers were failed with weights loading",
                "workers_count": 1,
                "workers": [{"result": False, "trace": TRACE}],
                "settings": {"timeout": 5.0},
            },
        )
        assert (await client.ask("GET", "/models/iris"))[1]["settings"] == {"timeout": 5.0}


async def test_settings_may_be_kept_for_the_versions_to_come():
    async with open_client() as client:
        worker = await client.site.ready_worker(lacks={"cuda"})
        await put(client, "iris/versions/1")
        assert await say(client, {"device": "cuda"}, query="?reload=false") == answer({"device": "cuda"})
        _, shown_ = await client.ask("GET", "/models/iris")
        assert (shown_["settings"], shown_["versions"][0]["settings"]) == ({"device": "cuda"}, {})
        worker.lacks = set()
        await put(client, "iris/versions/2", b"3")
        assert worker.settings["iris/2"].device == "cuda"
        assert await say(client, {}, query="?reload=maybe") == (
            400,
            refusal("reload should be true or false, not 'maybe'"),
        )


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"max_batch": 0}, "max_batch should be a whole number from 1 to 65536, not 0"),
        ({"max_batch": "8"}, 'max_batch should be a whole number from 1 to 65536, not "8"'),
        ({"timeout": 0}, "timeout should be a number of seconds above 0, at most 3600, not 0"),
        ({"device": "tpu"}, 'device should be one of auto, cpu, cuda, cuda:0, cuda:1, …, not "tpu"'),
        ({"affinity": 1}, "affinity should be true or false, not 1"),
        (
            {"labels": [""], "instances": 0},
            "labels should be a list of up to 32768 texts of 1 to 1000 characters, not"
            ' [""]; instances should be a whole number from 1 to 10000, not 0',
        ),
        ([], 'the body should be an object of settings, like {"max_batch": 64}'),
        (7, 'the body should be an object of settings, like {"max_batch": 64}'),
    ],
)
async def test_settings_that_make_no_sense_are_400_and_change_nothing(method, body, sentence):
    async with open_client() as client:
        await say(client, {"timeout": 5.0})
        assert await say(client, body, method=method) == (400, refusal(sentence))
        assert (await client.ask("GET", "/models/iris"))[1]["settings"] == {"timeout": 5.0}


async def test_a_setting_that_there_is_none_of_is_400_with_those_that_there_are():
    async with open_client() as client:
        status, said = await say(client, {"max_bacth": 8})
        assert status == 400
        assert said["message"].startswith(
            "there is no setting max_bacth (did you mean max_batch?): allowed are runtime, architecture,"
        )
        assert (await client.ask("GET", "/models/iris"))[0] == 404


@pytest.mark.parametrize("body", [b"", b"{", b'{"max_batch":NaN}', b'{"a":"\xff"}'])
async def test_a_body_that_is_no_json_is_400(body):
    async with open_client() as client:
        assert await client.ask("PUT", "/models/iris", content=body) == (
            400,
            refusal("cannot parse request body: it should be JSON"),
        )


@pytest.mark.parametrize("depth", [32, 33, 200, 500, 900, 2000])
async def test_arguments_that_are_nested_too_deeply_are_400(depth):
    async with open_client() as client:
        body = b'{"arguments":{"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}}"
        status, said = await client.ask("PUT", "/models/iris", content=body)
        assert (status, said["status"]) == ((200, True) if depth == 32 else (400, False))
        assert depth == 32 or said["message"].startswith(
            "request body is nested too deeply" if depth > 64 else "arguments should be a table of "
        )


async def test_a_body_that_is_too_long_is_413():
    async with open_client() as client:
        body = b'{"labels":["%s"]}' % (b"x" * MAX_CHARACTERS)
        assert await client.ask("PUT", "/models/iris", content=body) == (
            413,
            refusal(f"the settings of a model have at most {MAX_CHARACTERS} bytes"),
        )


async def test_a_model_is_called_as_an_upload_may_call_it():
    async with open_client() as client:
        status, said = await say(client, {}, model="-x")
        assert (status, said["message"].partition(":")[0]) == (400, "'-x' cannot name a model")


async def test_the_default_model_stays_what_set_weights_makes_it():
    async with open_client() as client:
        await client.site.ready_worker()
        await client.set_weights(b"2")
        wanted = {"runtime": "torch", "architecture": "sample", "keep_versions": 1, "max_batch": 8}
        assert await say(client, {"max_batch": 8}, model="default") == answer(wanted, 1)
        await client.set_weights(b"3", "c" * 32)
        assert (await client.ask("GET", "/models/default"))[1]["settings"] == wanted


# --- what a body makes of settings: pure


def test_what_is_shown_is_what_a_put_may_say():
    settings = ModelSettings(max_batch=8, warmup_rows=((1.0, 2.0),), labels=("a",), arguments={"x": [1]})
    assert replaced(shown(settings), "iris", ModelSettings(timeout=1.0)) == settings
    assert merged(shown(settings), settings) == settings
    assert shown(ModelSettings()) == {}


def test_a_patch_of_a_key_with_null_is_its_default_whatever_that_is():
    assert merged({"max_batch": None, "labels": None}, ModelSettings(max_batch=8, labels=("a",))) == (
        ModelSettings()
    )
