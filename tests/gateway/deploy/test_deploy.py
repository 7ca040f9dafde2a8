"""pure: what `gw.py deploy` is told by its command line, its file of settings, and the model's own place."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import gw
from common.bundle import read_bundle
from common.errors import LoadError
from common.models import ModelSettings
from gateway.deploy.command import Command, read_command, with_a_worker
from gateway.deploy.config import NOTHING, read_config
from gateway.deploy.example import example
from gateway.deploy.package import find_package
from gateway.deploy.upload import RestClient

URL = "http://here"


def config_of(folder: Path, text: str) -> Path:
    path = folder / "deploy.toml"
    path.write_text(text)
    return path


def test_what_is_no_flag_of_deploy_is_one_of_the_gateway():
    command = read_command(["m.pt", "--name", "n", "--workers", "3", "--config", "c.toml", "--ephemeral"])
    flags = ["--workers", "3", "--ephemeral"]
    assert command == Command(Path("m.pt"), Path("c.toml"), "n", None, flags)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--workers", "2", "m.pt"], "the model comes first: gw.py deploy MODEL --workers …"),
        ([], "the following arguments are required: MODEL"),
        (
            ["m.pt", "--to", URL, "--workers=2"],
            "with --to the gateway runs already, and takes no --workers=2: leave it out",
        ),
    ],
)
def test_a_command_that_makes_no_sense_is_told_in_a_sentence(capsys, argv, sentence):
    with pytest.raises(SystemExit) as ended:
        gw.main(["deploy", *argv])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"gw.py deploy: error: {sentence}\n")


def test_one_worker_is_started_unless_something_says_how_many():
    assert with_a_worker(["--ephemeral"], {}) == ["--ephemeral", "--min_workers=1"]
    assert with_a_worker(["--max_workers=4"], {}) == ["--max_workers=4", "--min_workers=1"]
    assert with_a_worker(["--scale-to-zero"], {}) == ["--scale-to-zero", "--num_init_workers=1"]
    assert with_a_worker(["--workers=4"], {}) == ["--workers=4"]
    assert with_a_worker(["--workers", "4"], {}) == ["--workers", "4"]
    assert with_a_worker([], {"PIPELINE_WORKERS": "4"}) == []
    assert with_a_worker([], {}, ["min_workers"]) == []


def test_a_config_says_settings_of_the_model_and_flags_by_their_groups(tmp_path):
    (tmp_path / "labels.txt").write_text("setosa\nversicolor\n\n")
    config = read_config(
        config_of(
            tmp_path,
            '[model]\nlabels_file = "labels.txt"\nmax_batch = 8\n'
            '[models]\nallow_code = ["a", "b.*"]\nallow_pickle = true\nwatch = false\n'
            "[limits]\ntimeout = 2.5\n",
        )
    )
    assert config.settings == ModelSettings(labels=("setosa", "versicolor"), max_batch=8)
    assert config.names == ("allow_code", "allow_pickle", "watch", "timeout")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[model", "is not TOML: "),
        ("max_batch = 8", "max_batch stands in no table: there are model, addresses, "),
        ("[mode]", "there is no table [mode]: did you mean model? Allowed are model, "),
        ("[limits]\nqueue_maximum = 8", "there is no queue_maximum in [limits]: did you mean queue_max? "),
        ("[limits]\nqueue_max = {}", "queue_max in [limits] should be one value, not a table"),
        ("[model]\nmax_bach = 8", "[model]: there is no setting max_bach (did you mean max_batch?)"),
        ("[model]\nlabels_file = 'none.txt'", "[model] labels_file cannot be read: "),
        ("[model]\nlabels_file = 3", "[model] labels_file should be the path of a text file, not 3"),
        (
            "[model]\nlabels_file = 'a'\nlabels = ['a']",
            "[model] has both labels and labels_file: leave one out",
        ),
    ],
)
def test_a_config_that_cannot_be_used_is_told_in_a_sentence(tmp_path, text, sentence):
    path = config_of(tmp_path, text)
    with pytest.raises(LoadError) as refused:
        read_config(path)
    assert str(refused.value).startswith(f"{path}")
    assert sentence in str(refused.value)


def test_a_config_that_is_not_there_is_told_in_a_sentence(tmp_path):
    with pytest.raises(LoadError) as refused:
        read_config(tmp_path / "none.toml")
    assert str(refused.value) == f"{tmp_path}/none.toml cannot be read: No such file or directory"


def test_a_file_is_called_as_it_is_and_numbered_by_who_takes_it(tmp_path):
    path = tmp_path / "iris.skops"
    path.write_bytes(b"x")
    package = find_package(path, None, NOTHING)
    assert (package.name, package.version, package.settings) == ("iris", None, None)
    assert find_package(path, "flowers", NOTHING).name == "flowers"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.pt", "there is no file {}"),
        ("empty.pt", "{} is empty"),
        (
            "my model.pt",
            "'my model' cannot name a model: use 1 to 64 letters, digits and . _ -, the first of them",
        ),
        (
            "folder",
            "{} should be the folder of one version, with one file called model.* in it, and there is none",
        ),
        ("iris/1", "there are model.onnx, model.pt"),
        ("broken/1", "{0}/../model.toml:1: there is no setting max_bach (did you mean max_batch?)"),
    ],
)
def test_a_model_that_is_none_is_told_in_a_sentence(tmp_path, name, sentence):
    for folder in ("folder", "iris/1", "broken/1"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("my model.pt", "iris/1/model.pt", "iris/1/model.onnx", "broken/1/model.pt"):
        (tmp_path / file).write_bytes(b"x")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "broken" / "model.toml").write_text("max_bach = 2")
    path = tmp_path / name
    with pytest.raises(LoadError) as refused:
        find_package(path, None, NOTHING)
    assert sentence.format(path).replace("1/../", "") in str(refused.value)


def test_what_can_be_tried_depends_on_what_the_model_takes():
    def shown(*inputs: tuple[str, str, list[int]]) -> str:
        named = [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in inputs]
        return example(URL, {"name": "m"}, {"inputs": named, "settings": {}})

    where = f"curl {URL}/models/m/predict -d "
    assert shown(("x", "FP32", [-1, 2])) == where + "'{\"vector\": [0, 0]}'"
    ids = '{"name": "ids", "datatype": "INT64", "shape": [1, 4], "data": [0, 0, 0, 0]}'
    text = '{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["text"]}'
    assert shown(("ids", "INT64", [-1, -1])) == where + f"'{{\"inputs\": [{ids}]}}'"
    assert (
        shown(("t", "BYTES", [-1]), ("ids", "INT64", [-1, -1]))
        == where + f"'{{\"inputs\": [{text}, {ids}]}}'"
    )
    python, three, program, *piped = shlex.split(shown(("x", "FP32", [-1, 3, 224, 224])))
    assert (python, three) == ("python3", "-c")
    assert program.endswith('"shape": [1, 3, 224, 224], "data": [0] * 150528}]}))')
    assert piped == ["|", "curl", f"{URL}/models/m/predict", "-d", "@-"]
    assert shown() == f"curl {URL}/models/m (its file does not say what it takes: say inputs under [model])"


@pytest.mark.parametrize("url", ["ftp://here", "http://", "http://here:port"])
def test_an_address_that_is_none_is_told_in_a_sentence(tmp_path, capsys, url):
    path = tmp_path / "m.pt"
    path.write_bytes(b"x")
    assert gw.main(["deploy", str(path), "--to", url]) == 1
    said = f"gw.py: {url} is no address of a gateway: give one like http://127.0.0.1:54321\n"
    assert capsys.readouterr().err == said


def test_an_address_may_do_without_its_scheme():
    assert RestClient("127.0.0.1:54321/").url == "http://127.0.0.1:54321"


def test_a_gateway_that_is_not_there_is_told_in_a_sentence(tmp_path, capsys):
    path = tmp_path / "m.pt"
    path.write_bytes(b"x")
    assert gw.main(["deploy", str(path), "--to", "http://127.0.0.1:1"]) == 1
    said = "gw.py: the gateway at http://127.0.0.1:1 cannot be asked: Connection refused\n"
    assert capsys.readouterr().err == said


def test_files_that_the_settings_name_travel_with_the_model_as_one(tmp_path):
    folder = tmp_path / "topics" / "2"
    folder.mkdir(parents=True)
    (folder / "model.ts").write_bytes(b"program")
    (folder / "tokenizer.json").write_bytes(b"{}")
    (folder.parent / "model.toml").write_text('input_type = "text"')
    (folder.parent / "labels.txt").write_text("food\nmusic\n")
    package = find_package(folder, None, NOTHING)
    assert (package.name, package.version, package.size) == ("topics", "2", 9)
    assert package.settings == ModelSettings(input_type="text", labels=("food", "music"))
    with package.as_one_file() as file, file.open("rb") as opened:
        bundle = read_bundle(opened)
    assert (bundle.name, bundle.size, bundle.files) == ("model.ts", 7, {"tokenizer.json": b"{}"})
    assert not file.exists()


def test_a_tokenizer_that_is_not_there_is_told_in_a_sentence(tmp_path):
    path = config_of(tmp_path, '[model]\ninput_type = "text"\n[model.text]\ntokenizer = "sub/none.json"')
    with pytest.raises(LoadError) as refused:
        read_config(path)
    assert str(refused.value) == f"{path}: [model.text] tokenizer: there is no file {tmp_path}/sub/none.json"


@pytest.mark.parametrize(
    ("settings", "request_shown"),
    [
        ({"input_type": "image"}, "/image --data-binary @picture.jpg"),
        ({"input_type": "audio"}, "/audio --data-binary @recording.wav"),
        ({"input_type": "text"}, '/text -d \'{"text": "a text"}\''),
        ({"input_type": "text", "text": {"pair": True}}, '/text -d \'{"text": ["a text", "and another"]}\''),
        ({"input_type": "json"}, "/json -d '{}'"),
    ],
)
def test_what_can_be_tried_depends_on_the_input_type(settings, request_shown):
    shown = example(URL, {"name": "m"}, {"inputs": [], "settings": settings})
    assert shown == f"curl {URL}/models/m{request_shown}"
