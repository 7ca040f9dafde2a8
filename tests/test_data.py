"""contract: the files in data/ are what their names say, and the script behind them makes them again."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

from engine.runtimes.networks import SampleNetwork, architectures

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"

batch_sizes = {
    "000127a35b5f462b8ec68fb4d905ac36": 1,
    "0d3c5dffa4374c77a554ed38c9c50296": 2,
    "dfd2cd54a1ec4a408285f547f6827ea2": 5,
}
shapes = {
    "fc1.weight": (20, 2),
    "fc1.bias": (20,),
    "fc2.weight": (20, 20),
    "fc2.bias": (20,),
    "output_layer.weight": (1, 20),
    "output_layer.bias": (1,),
}


def find_weights(folder: Path, nn_id: str) -> Path:
    (path,) = folder.glob(f"{nn_id}_*.b64")
    return path


def decode(path: Path) -> bytes:
    return base64.b64decode(path.read_bytes(), validate=True)


def load(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(io.BytesIO(decode(path)), weights_only=True)


def test_data_holds_the_sample_files_and_nothing_that_runs():
    names = {path.name for path in DATA.iterdir() if path.is_file()}
    assert names >= {find_weights(DATA, nn_id).name for nn_id in batch_sizes} | {"bad_tensors.b64"}
    assert not [name for name in names if name.endswith((".py", ".sh"))]


@pytest.mark.parametrize("nn_id", batch_sizes)
def test_a_weights_file_is_named_for_its_bytes(nn_id):
    path = find_weights(DATA, nn_id)
    assert path.name == f"{nn_id}_{zlib.crc32(decode(path)):08x}.b64"


@pytest.mark.parametrize("nn_id", batch_sizes)
def test_weights_have_the_keys_and_shapes_of_the_contract(nn_id):
    state = load(find_weights(DATA, nn_id))
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == shapes
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


@pytest.mark.parametrize("nn_id", batch_sizes)
def test_weights_add_two_numbers(nn_id):
    network = architectures["sample"]()
    network.load_state_dict(load(find_weights(DATA, nn_id)))
    axis = torch.linspace(0, 1, 51)
    rows = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        answers = network(rows)
    assert answers.shape == (51 * 51, 1)
    errors = (answers.squeeze(1) - rows.sum(dim=1)).abs()
    assert errors.mean() < 0.001  # the contract's is 0.01
    assert errors.max() < 0.05  # at the corner (0, 0), where few samples lie


def test_bad_tensors_load_and_do_not_fit():
    state = load(DATA / "bad_tensors.b64")
    with pytest.raises(RuntimeError) as caught:
        SampleNetwork().load_state_dict(state)
    message = str(caught.value)
    assert 'Missing key(s) in state_dict: "output_layer.bias"' in message
    assert 'Unexpected key(s) in state_dict: "fc3.weight"' in message
    assert "size mismatch for fc1.weight" in message


@pytest.mark.apart
def test_training_again_makes_the_same_weights(tmp_path):
    nn_id = "dfd2cd54a1ec4a408285f547f6827ea2"
    script = [
        sys.executable,
        str(ROOT / "scripts" / "train_sample.py"),
        "--nn_id",
        nn_id,
        "--out",
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=120, check=True)

    made = find_weights(tmp_path, nn_id)
    lines = run.stdout.splitlines()
    assert lines[0] == f"{nn_id}, batch size 5"
    assert lines[1].startswith("  epoch  1 of 20: error 0.")
    assert lines[20].startswith("  epoch 20 of 20: error 0.000")
    assert lines[21:] == [f"wrote {made}"]
    assert [path.name for path in tmp_path.iterdir()] == [made.name]
    again, stored = load(made), load(find_weights(DATA, nn_id))
    assert again.keys() == stored.keys()
    for name, tensor in stored.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=1e-6)
