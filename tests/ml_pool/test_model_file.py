"""end to end: model files in a pool's workers, and a program that never sees torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ml_pool import MLPool, ModelFile, predict, predict_batch
from ml_pool.exceptions import MLWorkerFailedBecauseOfUserProvidedCodeError, UserProvidedCallableFailedError
from tests.ml_pool.conftest import WAIT

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = 2 a + 3 b."""
    path = tmp_path_factory.mktemp("models") / "line.pt"
    torch.save({"coefs": torch.tensor([2.0, 3.0])}, path)
    return path


@pytest.fixture(scope="module", params=[False, True], ids=["own models", "shared models"])
def pool(request: pytest.FixtureRequest, weights: Path) -> Iterator[MLPool]:
    models = {"line": ModelFile(weights, options={"architecture": "linear"})}
    with MLPool(models, 1, share_models=request.param) as opened:
        yield opened


def test_a_file_predicts(pool: MLPool) -> None:
    assert pool.submit(predict, "line", [1.0, 10.0]).result(WAIT) == 32.0
    assert pool.submit(predict_batch, "line", [[1, 10], [0, 1]]).result(WAIT) == [32.0, 3.0]


def test_features_that_do_not_fit_fail_their_own_job(pool: MLPool) -> None:
    with pytest.raises(UserProvidedCallableFailedError, match="InvalidRequest"):
        pool.submit(predict, "line", [1.0]).result(WAIT)
    assert pool.submit(predict, "line", [0.0, 1.0]).result(WAIT) == 3.0


def test_a_file_that_is_no_model_is_said_by_the_constructor(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"no model")
    with pytest.raises(MLWorkerFailedBecauseOfUserProvidedCodeError, match="model 'line' cannot be loaded"):
        MLPool({"line": ModelFile(tmp_path / "model.pt")}, 1)


def test_the_program_imports_neither_torch_nor_trio_nor_starlette() -> None:
    code = """import sys, ml_pool
assert not {"torch", "numpy", "trio", "starlette", "engine"} & sys.modules.keys()"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
