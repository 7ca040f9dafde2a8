"""end to end: models of images, sound, documents and text in a real worker, asked through every door."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.bundle import pack_bundle
from tests.e2e.processes import Gateway, Site
from tests.engine.inputs.files import coloured, recorded, saved, tokenizer_file, tone

connect = pytest.importorskip("websockets.asyncio.client").connect

JPEG = saved(coloured(64, 48), "JPEG")
B64 = base64.b64encode(JPEG).decode()
LABELS = ["red", "green", "blue"]


class Redness(nn.Module):
    """Scores of an image's three colours: the mean of each channel."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(dim=[2, 3]) * 10


class Halves(nn.Module):
    """Class 1 on the right, class 0 on the left, whatever there is to be seen."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        right = (torch.arange(image.shape[3]) >= image.shape[3] // 2).float()
        return torch.stack([1 - right, right])[None, :, None, :].repeat(image.shape[0], 1, image.shape[2], 1)


class Corners(nn.Module):
    """Finds something in the left upper quarter of every image, and is unsure of a second thing."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        height, width = image.shape[2], image.shape[3]
        box = torch.tensor([[0.0, 0.0, width / 2, height / 2], [0.0, 0.0, 1.0, 1.0]])
        rows = image.shape[0]
        return {
            "boxes": box[None].repeat(rows, 1, 1),
            "labels": torch.tensor([[2, 0]]).repeat(rows, 1),
            "scores": torch.tensor([[0.9, 0.1]]).repeat(rows, 1),
        }


class Loudness(nn.Module):
    """One vector a recording: how loud it is, and 1."""

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        loud = samples.abs().mean(dim=1)
        return torch.stack([loud, torch.ones_like(loud)], dim=1)


class Tokens(nn.Module):
    """Scores of a text by its tokens: how many count, and how many fill."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        counted = mask.sum(dim=1).float()
        return torch.stack([counted, mask.shape[1] - counted], dim=1)


def scripted(network: nn.Module) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network.eval()), file)
    return file.getvalue()


def bundled(model: bytes, **files: bytes) -> bytes:
    named = [("model.ts", io.BytesIO(model)), *((f"{n}.json", io.BytesIO(data)) for n, data in files.items())]
    return b"".join(pack_bundle(named))


MODELS: dict[str, tuple[dict[str, Any], bytes]] = {
    "colours": (
        {"input_type": "image", "output_type": "classification", "labels": LABELS, "image": {"size": [8, 8]}},
        scripted(Redness()),
    ),
    "halves": (
        {"input_type": "image", "output_type": "image", "image": {"size": [8, 8]}}, scripted(Halves()),
    ),
    "corners": (
        {"input_type": "image", "output_type": "detections", "labels": LABELS,
         "image": {"size": [8, 8], "resize": "stretch"}},
        scripted(Corners()),
    ),
    "loudness": (
        {"input_type": "audio", "output_type": "embedding", "output": {"normalise": False}},
        scripted(Loudness()),
    ),
    "tokens": (
        {"input_type": "text", "output": {}, "text": {"multiple": 8}},
        bundled(scripted(Tokens()), tokenizer=tokenizer_file()),
    ),
    "table": ({"input_type": "json", "inputs": [{"name": "samples", "shape": [3]}]}, scripted(Loudness())),
    "vectors": (
        {"input_type": "vector", "output_type": "classification", "inputs": [{"name": "x", "shape": [3]}]},
        scripted(Loudness()),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(shared_site: Site) -> Gateway:
    """One worker that holds all of them."""
    folder = shared_site.folder / "files"
    folder.mkdir()
    gateway = shared_site.start_gateway("--workers", "1", "--batch_root", str(folder))
    gateway.wait_ready(1)
    for name, (settings, file) in MODELS.items():
        assert gateway.ask("PUT", f"/models/{name}", json.dumps(settings).encode()).json["status"] is True
        done = gateway.ask("PUT", f"/models/{name}/versions/1?file=model.ts", file).json
        assert (done["status"], done["workers_count"]) == (True, 1), (name, _traces(done))
    return gateway


def _traces(done: Any) -> list[str]:
    return [base64.b64decode(each.get("trace", "")).decode()[-500:] for each in done["workers"]]


@pytest.fixture
def ask(gateway: Gateway) -> Callable[..., Any]:
    """What a request is answered, which is 200."""

    def asked(path: str, body: Any, content_type: str = "", **headers: str) -> Any:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        if content_type:
            headers["content_type"] = content_type
        answer = gateway.ask("POST", f"/models/{path}", body, **headers)
        assert (answer.status, answer.json["status"]) == (200, True), answer
        return answer.json["results" if "results" in answer.json else "result"]

    return asked


def refusal(gateway: Gateway, path: str, body: bytes, content_type: str) -> tuple[int, str]:
    answer = gateway.ask("POST", path, body, content_type=content_type)
    assert answer.json["status"] is False
    return answer.status, answer.json["message"]


# --- images


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_every_format_is_classified_alike(ask, kind):
    picture = Image.new("RGB", (64, 48), (0, 40, 200))
    found = ask("colours/image", saved(picture, kind), f"image/{kind.lower()}")
    assert [each["label"] for each in found] == ["blue", "green", "red"]
    assert found[0]["probability"] == pytest.approx(0.997, abs=0.002)


def test_red_is_red_however_it_is_sent(ask):
    red = saved(Image.new("RGB", (640, 480), "red"), "JPEG")
    text = base64.b64encode(red).decode()
    boundary = (
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + red + b"\r\n--x--"
    )
    one = [{"label": "red", "index": 0, "probability": pytest.approx(1, abs=1e-3)}]
    for path in (
        "colours/image",
        "colours/predict",
        "colours/versions/1/image",
        "colours/versions/1/predict",
    ):
        assert ask(f"{path}?top_n=1", red, "image/jpeg") == one
    assert ask("colours/image?top_n=1", red, "application/octet-stream") == one
    assert ask("colours/image?top_n=1", boundary, "multipart/form-data; boundary=x") == one
    assert ask("colours/image?top_n=1", {"image": text}) == one
    assert ask("colours/image?top_n=1", {"images": [text, text]}) == [one, one]


def test_the_cache_knows_an_image_by_its_bytes(gateway):
    body = saved(Image.new("RGB", (9, 9), "blue"), "PNG")
    first, second = (
        gateway.ask("POST", "/models/colours/image", body, content_type="image/png") for _ in "ab"
    )
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert first.body == second.body


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "content_type", "status", "said"),
    [
        (bomb(), "image/png", 413, "the image has "),
        (JPEG[: len(JPEG) // 2], "image/jpeg", 400, "the image cannot be decoded"),
        (saved(coloured(8, 8), "BMP"), "image/png", 415, "the image is none of JPEG, PNG, WebP and GIF"),
        (JPEG, "image/bmp", 415, "a model of image takes image/jpeg, image/png, image/webp, image/gif, "),
        (b"", "image/png", 400, "the body is empty"),
        (b'{"image": "?"}', "application/json", 400, "image has wrong format: it should be base64"),
    ],
)
def test_what_is_no_image_is_refused_with_a_sentence(gateway, body, content_type, status, said):
    found = refusal(gateway, "/models/colours/image", body, content_type)
    assert found[0] == status
    assert found[1].startswith(said)
    assert gateway.wait_ready(1)


def test_an_image_that_cannot_be_decoded_spoils_no_neighbour_s_answer(gateway):
    """All at once, so that they share batches."""
    bodies = [saved(coloured(20 + n, 20), "PNG") for n in range(20)]
    bodies[3::4] = [body[:60] for body in bodies[3::4]]
    statuses: dict[int, int] = {}

    def send(n: int) -> None:
        answer = gateway.ask("POST", "/models/colours/image", bodies[n], content_type="image/png")
        statuses[n] = answer.status

    threads = [threading.Thread(target=send, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == {n: 400 if n % 4 == 3 else 200 for n in range(20)}


def test_a_map_is_a_png_of_the_image_s_size(gateway, ask):
    answer = gateway.ask("POST", "/models/halves/image", JPEG, content_type="image/jpeg", accept="image/png")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    image = Image.open(io.BytesIO(answer.body))
    assert (image.size, image.mode) == ((64, 48), "P")
    # The model saw the middle of 48 × 48; beside it nothing is known.
    assert np.asarray(image)[10, [0, 20, 43, 60]].tolist() == [0, 0, 1, 0]
    assert base64.b64decode(ask("halves/image", JPEG, "image/jpeg")) == answer.body


def test_boxes_lie_in_the_image_that_was_sent(ask):
    assert ask("corners/image", JPEG, "image/jpeg") == [
        {"box": [0, 0, 32, 24], "label": "blue", "index": 2, "score": 0.9}
    ]


# --- the other types


def test_sound_of_any_rate_is_an_embedding(ask):
    for kind in ("WAV", "FLAC"):
        found = ask("loudness/audio", recorded(tone(0.5, 44_100), 44_100, kind), f"audio/{kind.lower()}")
        assert found == [pytest.approx(2 / np.pi / 2, abs=0.01), 1.0]


def test_text_is_counted_by_its_tokens_whoever_is_beside_it(ask):
    alone = ask("tokens/text", b"the cat", "text/plain; charset=utf-8")
    assert alone == [4.0, 4.0]
    assert ask("tokens/text", {"texts": ["the cat", "a dog " * 30]})[0] == alone


def test_a_document_is_a_row_and_so_is_each_line_of_many(ask):
    assert ask("table/json", b"[0, 3, 3]", "application/json") == [2.0, 1.0]
    assert ask("table/json", b'[0,0,0]\n{"samples":[1,1,1]}\n', "application/x-ndjson") == [[0, 1], [1, 1]]


def test_vectors_are_classified_too_and_may_be_raw(ask):
    body = np.array([[9, 9, 9], [0, 0, 0]], np.float32).tobytes()
    found = ask("vectors/vector?top_n=1", body, "application/octet-stream")
    assert [row[0]["index"] for row in found] == [0, 1]
    assert ask("vectors/predict?top_n=1", {"vector": [9, 9, 9]})[0]["label"] == "0"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/models/colours/text", 404, "colours takes image, not text: POST /models/colours/image"),
        ("/models/vectors/tensor", 404, "vectors takes vector, not tensor: POST /models/vectors/vector"),
        ("/models/none/image", 404, "there is no model none: GET /models says which there are"),
        ("/models/colours/versions/9/image", 404, "version 9 of colours does not serve: there are 1"),
        ("/models/colours/image?top_n=x", 400, "top_n should be a whole number from 1 to 32768, not 'x'"),
        ("/models/loudness/audio?top_n=1", 400, "top_n is for models that classify, and this one answers"),
    ],
)
def test_a_route_is_there_for_models_of_its_type(gateway, path, status, said):
    found = refusal(gateway, path, JPEG, "application/octet-stream")
    assert found[0] == status
    assert found[1].startswith(said)


def test_models_say_what_they_take_and_where(gateway):
    listed = {each["name"]: each for each in gateway.ask("GET", "/models").json["models"]}
    types = {name: (each["input_type"], each["output_type"], each["route"]) for name, each in listed.items()}
    assert types["colours"] == ("image", "classification", "/models/colours/image")
    assert types["tokens"] == ("text", "raw", "/models/tokens/text")
    assert gateway.ask("GET", "/models/loudness").json["route"] == "/models/loudness/audio"


# --- a model that does not fit what is said of it


@pytest.mark.parametrize(
    ("model", "change", "said"),
    [
        ("colours", {"image": {"channels": "L"}}, None),
        ("tokens", {"text": {"tokenizer": "other.json"}}, "there is no other.json beside the model"),
        (
            "corners",
            {"output": {"boxes": "squares"}},
            "the model gives no squares: it gives boxes, labels, scores",
        ),
        ("loudness", {"input_type": "image"}, "does not run on an example of its input type"),
    ],
)
def test_settings_that_the_model_does_not_fit_change_nothing(gateway, ask, model, change, said):
    done = gateway.ask("PATCH", f"/models/{model}", json.dumps(change).encode()).json
    if said is None:
        assert done["status"] is True
        settings = json.dumps(MODELS[model][0]).encode()
        assert gateway.ask("PUT", f"/models/{model}", settings).json["status"] is True
    else:
        assert done["status"] is False
        assert said in base64.b64decode(done["workers"][0]["trace"]).decode()
    assert len(ask("colours/image", JPEG, "image/jpeg")) == 3


# --- the other doors


def test_in_the_open_inference_protocol_it_is_an_input_of_bytes(gateway):
    described = gateway.ask("GET", "/v2/models/colours").json
    assert described["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    data = struct.pack("<I", len(JPEG)) + JPEG
    head = {
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1],
                "parameters": {"binary_data_size": len(data)},
            }
        ],
        "outputs": [{"name": "probabilities", "parameters": {"classification": 1}}],
    }
    text = json.dumps(head).encode()
    answer = gateway.ask(
        "POST", "/v2/models/colours/infer", text + data, inference_header_content_length=str(len(text))
    )
    (output,) = answer.json["outputs"]
    assert output["data"][0].split(":")[2] in LABELS
    broken = gateway.ask(
        "POST", "/v2/models/colours/infer", text + struct.pack("<I", len(JPEG)) + bytes(len(JPEG)),
        inference_header_content_length=str(len(text)),
    )  # fmt: skip
    assert (broken.status, list(broken.json)) == (415, ["error"])


def test_on_a_websocket_it_is_a_tensor_of_bytes(gateway):
    def message(name: str, model: str, data: Any) -> dict[str, Any]:
        tensor = {"name": "row", "datatype": "BYTES", "shape": [1], "data": [data]}
        return {"id": name, "model": model, "inputs": [tensor]}

    async def session() -> tuple[Any, Any]:
        async with connect(f"ws://127.0.0.1:{gateway.port}/ws") as ws:
            await ws.recv()
            await ws.send(msgspec.msgpack.encode(message("a", "colours", JPEG)))
            packed = msgspec.msgpack.decode(await ws.recv())
            await ws.send(json.dumps(message("b", "tokens", "the cat")))
            return packed, json.loads(await ws.recv())

    packed, said = asyncio.run(session())
    assert sum(packed["outputs"][0]["data"]) == pytest.approx(1)
    assert said["outputs"][0]["data"] == [4.0, 4.0]


def test_lines_of_a_job_are_texts_or_files(gateway, shared_site):
    folder = shared_site.folder / "files"
    lines = [{"image": B64}, {"image": base64.b64encode(b"x").decode()}, {"image": B64}]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    order = {
        "model": "halves",
        "input": (folder / "in.jsonl").as_uri(),
        "output": (folder / "out.jsonl").as_uri(),
    }
    job = gateway.ask("POST", "/jobs", json.dumps(order).encode()).json["id"]
    done = gateway.ask("GET", f"/jobs/{job}/result?wait=60").json
    assert done["state"] == "done", done
    first, second, third = map(json.loads, (folder / "out.jsonl").read_text().splitlines())
    assert base64.b64decode(first["result"]).startswith(b"\x89PNG")
    assert second["error"] == "the image is none of JPEG, PNG, WebP and GIF, which are what is read"
    assert third["result"] == first["result"]
