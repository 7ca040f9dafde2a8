"""Collaboration: REST for models as an ASGI app over a gateway on a network in memory; virtual time."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
import trio

from common.errors import StateError
from common.models import ModelSettings
from common.tensor import TensorSpec
from tests.gateway.doors.test_rest import MAX_UPLOAD, Client, open_client, refusal

pytestmark = pytest.mark.usefixtures("virtual_time")

OK = {"status": True, "message": "OK"}
TRACE = base64.b64encode(b"Traceback\nLoadError: it does not fit").decode()
BAD_NAMES = [".hidden", "-x", "a b", "a%2fb", "é", "a" * 65, "a%0a", "a:b", "%00"]


def loaded(workers: int = 1) -> dict[str, Any]:
    return {**OK, "workers_count": workers, "workers": [{"result": True}] * workers}


def digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


async def put(client: Client, path: str, weights: bytes = b"2", **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.ask("PUT", f"/models/{path}", content=weights, headers=named)


async def predict(client: Client, path: str, *row: float) -> tuple[float, str]:
    """(result, version that answered)."""
    response = await client.http.post(f"/models/{path}/predict", json={"vector": row})
    answer, version = response.json(), response.headers["x-model-version"]
    assert (response.status_code, answer["status"], answer["message"]) == (200, True, version)
    return answer["result"], version


async def versions(client: Client, model: str) -> list[str]:
    """The versions of a model that the gateway knows."""
    status, answer = await client.ask("GET", f"/models/{model}")
    assert status == 200
    return [version["version"] for version in answer["versions"]]


async def serving(client: Client) -> dict[str, tuple[str | None, list[str]]]:
    """What GET /models says: the active version and those that serve, by model."""
    status, answer = await client.ask("GET", "/models")
    assert (status, {**answer, "models": 0}) == (200, {**OK, "models": 0})
    return {model["name"]: (model["active"], model["serving"]) for model in answer["models"]}


# --- what there is


async def test_a_gateway_without_models_lists_none():
    async with open_client() as client:
        assert await client.ask("GET", "/models") == (200, {**OK, "models": []})


async def test_models_are_listed_by_name_with_the_versions_that_serve():
    async with open_client() as client:
        await put(client, "mnist/versions/a")
        await put(client, "iris/versions/1")
        await put(client, "iris/versions/2")
        await client.set_weights(b"5", "c" * 32)
        assert await serving(client) == {
            "default": ("c" * 32, ["c" * 32]),
            "iris": ("1", ["1", "2"]),
            "mnist": ("a", ["a"]),
        }


async def test_a_model_shows_everything_that_is_known_of_its_versions():
    async with open_client() as client:
        site = client.site
        spec = TensorSpec("x", "FP64", (2, -1))
        worker = await site.ready_worker(inputs=(spec,))
        await site.add("iris", "1", b"2", max_batch=7, keep_versions=3)
        await put(client, "iris/versions/2?file=iris.onnx&activate=true", b"34")
        status, shown = await client.ask("GET", "/models/iris")
        created = [version.pop("created") for version in shown["versions"]]
        first, second = (hashlib.sha256(data).hexdigest() for data in (b"2", b"34"))
        same = {
            "serves": True,
            "checked": True,
            "workers": [worker.name],
            "refused": {},
            "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2, -1]}],
            "outputs": [{"name": "result", "datatype": "FP32", "shape": [-1, 1]}],
            "settings": {"max_batch": 7, "keep_versions": 3},
        }
        assert status == 200
        assert shown == {
            **OK, "name": "iris", "active": "2", "previous": "1",
            "input_type": "tensor", "output_type": "raw", "route": "/models/iris/tensor",
            "settings": {"max_batch": 7, "keep_versions": 3},
            "versions": [
                {**same, "version": "1", "file": "", "size": 1, "sha256": first},
                {**same, "version": "2", "file": "iris.onnx", "size": 2, "sha256": second},
            ],
        }  # fmt: skip
        assert 0.0 == created[0] < created[1]


async def test_a_model_nobody_knows_is_404():
    async with open_client() as client:
        assert await client.ask("GET", "/models/iris") == (
            404,
            refusal("there is no model iris: GET /models says which there are"),
        )


# --- uploads


async def test_an_uploaded_version_serves_and_the_first_one_is_active():
    async with open_client() as client:
        for _ in range(2):
            await client.site.ready_worker()
        assert await put(client, "iris/versions/1", b"2") == (200, loaded(2))
        assert await put(client, "iris/versions/2", b"3") == (200, loaded(2))
        assert await predict(client, "iris", 5) == (10.0, "1")
        assert await predict(client, "iris/versions/2", 5) == (15.0, "2")


@pytest.mark.parametrize(
    ("query", "active"),
    [("", "1"), ("?activate=false", "1"), ("?activate=0", "1"), ("?activate=true", "2"), ("?activate", "2")],
)
async def test_a_version_is_activated_where_its_upload_says_so(query, active):
    async with open_client() as client:
        await put(client, "iris/versions/1", b"2")
        assert await put(client, f"iris/versions/2{query}", b"3") == (200, loaded(0))
        assert await serving(client) == {"iris": (active, ["1", "2"])}


async def test_an_upload_for_the_default_model_is_activated_as_set_weights_would():
    async with open_client() as client:
        await client.site.ready_worker()
        await put(client, "default/versions/1", b"2")
        await put(client, "default/versions/2", b"3")
        answer = (await client.ask("POST", "/predict", json={"vector": [1]}))[1]
        assert answer == {"status": True, "message": "2", "result": 3.0}


async def test_a_version_has_the_settings_of_the_one_before():
    async with open_client() as client:
        await client.site.add("iris", "1", b"2", max_batch=7)
        await put(client, "iris/versions/2", b"3")
        assert client.site.catalog.find("iris", "2").settings == ModelSettings(max_batch=7)
        await put(client, "mnist/versions/1", b"3")
        assert client.site.catalog.find("mnist", "1").settings == ModelSettings()


async def test_the_same_file_again_is_the_same_version_and_another_is_refused():
    async with open_client() as client:
        await client.site.ready_worker()
        await put(client, "iris/versions/1", b"2")
        assert await put(client, "iris/versions/1", b"2") == (200, loaded())
        sha256 = hashlib.sha256(b"2").hexdigest()
        assert await put(client, "iris/versions/1", b"3") == (
            409,
            refusal(f"version 1 of iris is already there with other weights (nn_id 1, sha256 {sha256})"),
        )
        assert await predict(client, "iris", 5) == (10.0, "1")


async def test_a_file_that_a_worker_refuses_is_answered_with_its_trace_and_not_kept():
    async with open_client() as client:
        await client.site.ready_worker()
        assert await put(client, "iris/versions/1", b"bad") == (
            200,
            {
                "status": False,
                "message": "One or more workers were failed with weights loading",
                "workers_count": 1,
                "workers": [{"result": False, "trace": TRACE}],
            },
        )
        assert await serving(client) == {}
        assert (await client.ask("GET", "/models/iris"))[0] == 404
        assert await put(client, "iris/versions/1", b"2") == (200, loaded())  # its name is free


async def test_nor_does_a_refused_version_change_the_one_that_serves():
    async with open_client() as client:
        good = await client.site.ready_worker()
        await client.site.ready_worker(refuses={b"3"})
        await put(client, "iris/versions/1", b"2")
        status, answer = await put(client, "iris/versions/2?activate=true", b"3")
        assert (status, answer["status"], answer["workers_count"]) == (200, False, 2)
        assert await serving(client) == {"iris": ("1", ["1"])}
        assert await versions(client, "iris") == ["1"]
        assert list(good.weights) == ["iris/1"]


@pytest.mark.parametrize(
    "said",
    [digest(b"2"), f"sha-512=:AAAA:, {digest(b'2')}", "sha-512=:AAAA:", "md5=:AAAA:", "x-sha-256=:AAAA:", ""],
)
async def test_a_body_whose_digest_is_right_or_not_said_is_taken(said):
    async with open_client() as client:
        assert await put(client, "iris/versions/1", b"2", content_digest=said) == (200, loaded(0))


@pytest.mark.parametrize("said", [digest(b"3"), f"sha-512=:AAAA:,{digest(b'3')}"])
async def test_a_body_that_is_not_what_its_digest_says_is_400_and_not_kept(said, tmp_path):
    async with open_client(tmp_path) as client:
        there, wanted = (hashlib.sha256(data).hexdigest() for data in (b"2", b"3"))
        assert await put(client, "iris/versions/1", b"2", content_digest=said) == (
            400,
            refusal(f"the body's sha256 is {there}, and Content-Digest says {wanted}: it was damaged"),
        )
        assert await serving(client) == {}
        assert list((tmp_path / "blobs").rglob("*")) == []


@pytest.mark.parametrize(
    "said",
    [
        "sha-256=",
        "sha-256=::",
        "sha-256=:AAAA:",
        f"sha-256=:A{'=' * 43}:",
        f"sha-256=:{'=' * 44}:",
        "sha-256=x",
    ],
)
async def test_a_digest_that_is_none_is_400(said):
    async with open_client() as client:
        assert await put(client, "iris/versions/1", b"2", content_digest=said) == (
            400,
            refusal("Content-Digest should say sha-256=:…: with the base64 of 32 bytes between"),
        )


async def test_an_empty_body_is_400():
    async with open_client() as client:
        assert await put(client, "iris/versions/1", b"") == (
            400,
            refusal("the body is empty: send the model's file"),
        )


# httpx's transport leaves its own stream where the app stopped reading.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx.*:ResourceWarning")
async def test_a_file_over_the_limit_is_413_and_not_kept(tmp_path):
    async with open_client(tmp_path) as client:
        assert await put(client, "iris/versions/1", b"2".ljust(MAX_UPLOAD)) == (200, loaded(0))
        assert await put(client, "iris/versions/2", b"2".ljust(MAX_UPLOAD + 1)) == (
            413,
            refusal(f"the file has more than {MAX_UPLOAD} bytes: see --max_upload"),
        )
        assert await versions(client, "iris") == ["1"]
        assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_name_that_would_not_fit_a_path_or_a_header_is_refused(name):
    async with open_client() as client:
        for path in (f"{name}/versions/1", f"iris/versions/{name}"):
            status, answer = await put(client, path)
            assert (status, answer["status"]) == (404 if "%2f" in name else 400, False)
            assert "cannot name a " in answer["message"] or status == 404
        assert await serving(client) == {}


async def test_a_bad_name_is_said_with_what_is_allowed():
    async with open_client() as client:
        allowed = "use 1 to 64 letters, digits and . _ -, the first of them a letter or digit"
        assert await put(client, "-x/versions/1") == (400, refusal(f"'-x' cannot name a model: {allowed}"))
        assert await put(client, "x/versions/a:b") == (
            400,
            refusal(f"'a:b' cannot name a version: {allowed}"),
        )
        assert (await put(client, f"{'a' * 64}/versions/1.0_b-c"))[0] == 200


async def test_whether_to_activate_is_true_or_false():
    async with open_client() as client:
        assert await put(client, "iris/versions/1?activate=maybe") == (
            400,
            refusal("activate should be true or false, not 'maybe'"),
        )


async def test_a_full_disk_is_500_and_nothing_serves(monkeypatch):
    async with open_client() as client:
        worker = await client.site.ready_worker()

        def full(*_: object) -> None:
            raise StateError("the disk is full")

        monkeypatch.setattr(client.site.state, "set_serving", full)
        assert await put(client, "iris/versions/1") == (500, refusal("the disk is full"))
        assert await serving(client) == {}
        assert worker.weights == {}


# --- which version answers


async def test_activate_and_rollback_move_who_names_no_version():
    async with open_client() as client:
        await client.site.ready_worker()
        await put(client, "iris/versions/1", b"2")
        await put(client, "iris/versions/2", b"3")
        for method, body, expected in (
            ("activate", {"version": "2"}, (3.0, "2")),
            ("activate", {"version": "2"}, (3.0, "2")),
            ("rollback", None, (2.0, "1")),
            ("rollback", None, (3.0, "2")),
            ("activate", {"version": "1"}, (2.0, "1")),
        ):
            assert await client.ask("POST", f"/models/iris/{method}", json=body) == (200, loaded())
            assert await predict(client, "iris", 1) == expected
        assert await predict(client, "iris/versions/2", 1) == (3.0, "2")


@pytest.mark.parametrize("body", [b"", b"2", b"{}", b'{"version":2}', b'{"version":"2","x":1}', b"[[" * 9999])
async def test_an_activation_that_names_no_version_is_400(body):
    async with open_client() as client:
        await put(client, "iris/versions/1")
        status, answer = await client.ask("POST", "/models/iris/activate", content=body)
        assert (status, answer["status"]) == (400, False)
        assert answer["message"].startswith('the body should be {"version":"…"}: ')


async def test_what_is_not_there_cannot_be_activated_rolled_back_or_deleted():
    async with open_client() as client:
        await put(client, "iris/versions/1")
        nine = (404, refusal("there is no version 9 of iris"))
        assert await client.ask("POST", "/models/iris/activate", json={"version": "9"}) == nine
        assert await client.ask("DELETE", "/models/iris/versions/9") == nine
        no_previous = "no version of {} was active before the one that is"
        for model in ("iris", "mnist"):
            assert await client.ask("POST", f"/models/{model}/rollback") == (
                404,
                refusal(no_previous.format(model)),
            )


async def test_a_version_that_no_longer_serves_is_loaded_again_when_it_is_activated():
    async with open_client() as client:
        worker = await client.site.ready_worker()
        for version, weights in (("1", b"2"), ("2", b"3"), ("3", b"4")):
            await client.site.add("iris", version, weights, keep_versions=1)
        assert await serving(client) == {"iris": ("1", ["1", "3"])}  # the active one and the newest
        assert await client.ask("POST", "/models/iris/activate", json={"version": "2"}) == (200, loaded())
        assert await serving(client) == {"iris": ("2", ["2"])}
        assert await versions(client, "iris") == ["1", "2", "3"]
        assert worker.weights == {"iris/2": b"3"}
        assert await client.ask("POST", "/models/iris/rollback") == (200, loaded())
        assert await predict(client, "iris", 1) == (2.0, "1")


async def test_only_so_many_versions_are_kept_loaded_and_the_active_one_always_is():
    async with open_client() as client:
        worker = await client.site.ready_worker()
        for version in "12345":
            await client.site.add("iris", version, version.encode(), keep_versions=3)
        assert await serving(client) == {"iris": ("1", ["1", "4", "5"])}
        assert sorted(worker.weights) == ["iris/1", "iris/4", "iris/5"]
        (shown,) = [
            v for v in (await client.ask("GET", "/models/iris"))[1]["versions"] if v["version"] == "2"
        ]
        assert (shown["serves"], shown["checked"], shown["workers"]) == (False, True, [])
        assert await client.ask("POST", "/models/iris/versions/2/predict", json={"vector": [1]}) == (
            404,
            refusal("version 2 of iris does not serve: there are 1, 4, 5"),
        )


# --- delete


async def test_a_deleted_version_is_forgotten_everywhere():
    async with open_client() as client:
        worker = await client.site.ready_worker()
        await put(client, "iris/versions/1", b"2")
        await put(client, "iris/versions/2", b"3")
        assert await client.ask("DELETE", "/models/iris/versions/2") == (200, OK)
        assert await serving(client) == {"iris": ("1", ["1"])}
        assert await versions(client, "iris") == ["1"]
        assert list(worker.weights) == ["iris/1"]
        assert await put(client, "iris/versions/2", b"4") == (200, loaded())  # other bytes, even
        assert await predict(client, "iris/versions/2", 1) == (4.0, "2")


async def test_the_active_version_is_not_deleted():
    async with open_client() as client:
        await client.site.ready_worker()
        await put(client, "iris/versions/1", b"2")
        assert await client.ask("DELETE", "/models/iris/versions/1") == (
            409,
            refusal("version 1 of iris is active: activate another one first"),
        )
        assert await predict(client, "iris", 1) == (2.0, "1")


async def test_who_was_admitted_under_a_version_that_is_deleted_is_answered_by_it():
    async with open_client() as client:
        worker = await client.site.ready_worker()
        await put(client, "iris/versions/1", b"2")
        await put(client, "iris/versions/2", b"3")
        worker.hold()
        answered: list[tuple[float, str]] = []

        async def ask() -> None:
            answered.append(await predict(client, "iris/versions/2", 1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await client.site.until(lambda: worker.in_hand == 1)
            nursery.start_soon(client.ask, "DELETE", "/models/iris/versions/2")
            await client.site.until(lambda: bool(client.site.switching.retiring))
            status, answer = await client.ask("POST", "/models/iris/versions/2/predict", json={"vector": [1]})
            assert (status, answer["status"]) == (404, False)
            worker.held.set()
        assert answered == [(3.0, "2")]
        assert list(worker.weights) == ["iris/1"]


# --- predictions


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("mnist", "there is no model mnist: GET /models says which there are"),
        ("mnist/versions/1", "there is no model mnist: GET /models says which there are"),
        ("iris/versions/9", "version 9 of iris does not serve: there are 1"),
    ],
)
async def test_a_prediction_of_what_is_not_there_is_404(path, sentence):
    async with open_client() as client:
        await put(client, "iris/versions/1")
        assert await client.ask("POST", f"/models/{path}/predict", json={"vector": [1]}) == (
            404,
            refusal(sentence),
        )


async def test_before_there_are_weights_the_default_model_says_so_as_v1_does():
    async with open_client() as client:
        assert await client.ask("POST", "/models/default/predict", json={"vector": [1]}) == (
            200,
            {"status": False, "message": "No weights loaded", "result": 0.0},
        )


async def test_a_vector_becomes_what_the_model_says_that_it_takes():
    async with open_client() as client:
        spec = TensorSpec("pixels", "UINT8", (2, 2))
        await client.site.ready_worker(inputs=(spec,))
        await put(client, "iris/versions/1", b"2")
        assert await predict(client, "iris", 1, 2, 3, 250) == (512.0, "1")
        path = "/models/iris/predict"
        assert await client.ask("POST", path, json={"vector": [1, 2, 3, 256]}) == (
            400,
            refusal("vector[3] is 256, beyond UINT8's 0 to 255"),
        )
        many = {"vectors": [[1, 2, 3, 4], [5, 6, 7, 8]]}
        assert await client.ask("POST", path, json=many) == (
            200,
            {"status": True, "message": "1", "results": [20.0, 52.0]},
        )


async def test_tensors_by_name_are_answered_with_tensors():
    async with open_client() as client:
        await client.site.ready_worker()
        await put(client, "iris/versions/1", b"2")
        inputs = [{"name": "x", "datatype": "FP64", "shape": [2, 2], "data": [[1, 2], [3, 4]]}]
        assert await client.ask("POST", "/models/iris/predict", json={"inputs": inputs}) == (
            200,
            {
                "status": True,
                "message": "1",
                "outputs": [{"name": "result", "datatype": "FP32", "shape": [2, 1], "data": [6.0, 14.0]}],
            },
        )


# --- what a restart finds


async def test_after_a_restart_every_model_is_there_as_it_was(tmp_path):
    async with open_client(tmp_path) as client:
        await client.site.ready_worker()
        await put(client, "iris/versions/1?file=a.skops", b"2")
        await put(client, "iris/versions/2", b"3")
        await client.ask("POST", "/models/iris/activate", json={"version": "2"})
        await put(client, "mnist/versions/1", b"4")
        await client.set_weights(b"5", "c" * 32)
        before = [await client.ask("GET", f"/models/{model}") for model in ("iris", "mnist", "default")]
        listed = await serving(client)
    async with open_client(tmp_path) as client:
        assert await serving(client) == listed
        await client.site.ready_worker("w1")
        after = [await client.ask("GET", f"/models/{model}") for model in ("iris", "mnist", "default")]
        assert after == before
        assert await predict(client, "iris", 1) == (3.0, "2")
        assert await predict(client, "iris/versions/1", 1) == (2.0, "1")
        assert await predict(client, "mnist", 1) == (4.0, "1")
        assert await client.ask("POST", "/models/iris/rollback") == (200, loaded())
        assert await predict(client, "iris", 1) == (2.0, "1")


async def test_after_a_restart_what_no_longer_served_still_does_not(tmp_path):
    async with open_client(tmp_path) as client:
        for version in "123":
            await client.site.add("iris", version, version.encode(), keep_versions=2)
        await client.ask("DELETE", "/models/iris/versions/3")
        await put(client, "iris/versions/4", b"4")
        assert await serving(client) == {"iris": ("1", ["1", "4"])}
    async with open_client(tmp_path) as client:
        assert await serving(client) == {"iris": ("1", ["1", "4"])}
        assert await versions(client, "iris") == ["1", "2", "4"]


# --- what is not there


@pytest.mark.parametrize(
    "path",
    ["/models/", "/models/iris/versions", "/models/iris/versions/1/x", "/models/iris/versions/1/2/predict"],
)
async def test_a_path_below_models_that_is_none_is_404_and_json(path):
    async with open_client() as client:
        assert await client.ask("GET", path) == (404, refusal(f"There is nothing at {path}"))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/models", {"GET", "HEAD"}),
        ("DELETE", "/models/iris", {"GET", "HEAD", "PATCH", "PUT"}),
        ("GET", "/models/iris/predict", {"POST"}),
        ("GET", "/models/iris/versions/1/predict", {"POST"}),
        ("PUT", "/models/iris/activate", {"POST"}),
        ("GET", "/models/iris/rollback", {"POST"}),
        ("POST", "/models/iris/versions/1", {"PUT", "DELETE"}),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_405_and_says_which_it_does(method, path, allowed):
    async with open_client() as client:
        response = await client.http.request(method, path)
        assert (response.status_code, response.json()) == (405, refusal(f"{method} is not allowed at {path}"))
        assert set(response.headers["allow"].split(", ")) == allowed
