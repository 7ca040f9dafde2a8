"""What a gateway is told that cannot have Ray's workers: sentences, before Ray is asked anything."""

import pytest

from common.errors import PipelineError
from gateway.launchers.ray import launcher as module
from gateway.launchers.ray.launcher import open_ray


async def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PipelineError, match=r"needs ray: pip install 'pipeline-inference\[ray\]'$"):
        async with open_ray("pipeline", address="10.0.0.1:6379"):
            pass


async def test_without_a_token_it_is_said_how_to_have_one(monkeypatch, tmp_path):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PipelineError) as caught:
        async with open_ray("pipeline", address="10.0.0.1:6379"):
            pass
    assert str(caught.value) == (
        f"Ray is asked with a token, and there is no file {tmp_path}/.ray/auth_token: give --ray_token_file"
        " with the cluster's own (ray get-auth-token --generate makes one)"
    )
    (tmp_path / "token").write_text("0" * 64)
    async with open_ray("pipeline", address="10.0.0.1:6379", token_file=str(tmp_path / "token")):
        pass
