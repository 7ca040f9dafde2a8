"""What the tests of the dashboard share: a browser, and the page of a gateway that is at work."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from gateway.deploy.config import read_config
from gateway.deploy.package import find_package
from gateway.deploy.run import deploy_to
from tests.e2e.browser import find_browser
from tests.e2e.dashboard.page import Dashboard, open_chromium
from tests.e2e.processes import ROOT, Gateway, Site
from tests.e2e.weights import ONE, TWO, stored


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if find_browser() is None:
        pytest.skip("there is no browser here: apt install chromium")
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def gateway(shared_site: Site) -> Gateway:
    """Two workers that it starts itself, models of many kinds, an experiment, and some requests that fail."""
    flags = ("--min_workers", "2", "--max_workers", "3", "--batch_root", str(shared_site.folder))
    gateway = shared_site.start_gateway(*flags)
    gateway.wait_ready(2)
    assert gateway.set_weights(ONE, stored(ONE)).json["status"] is True
    sample = b'{"runtime":"torch","architecture":"sample"}'
    for model in ("sum", "split"):
        assert gateway.ask("PUT", f"/models/{model}", sample).json["status"] is True
        for version, nn_id in (("1", ONE), ("2", TWO)):
            done = gateway.ask("PUT", f"/models/{model}/versions/{version}", stored(nn_id)).json
            assert done["status"] is True
    for name in ("digits", "shapes", "sentences"):
        config = read_config(ROOT / "data" / f"{name}.toml")
        deploy_to(gateway.url, find_package(ROOT / "data" / f"{name}.ts", name, config))
    plan = {"model": "split", "arms": {"1": 80, "2": 20}}
    assert gateway.ask("PUT", "/experiments/split-2", json.dumps(plan).encode()).json["status"] is True
    with gateway.client() as client:
        for n in range(200):
            body = json.dumps({"vector": [n / 200, 0.5]}).encode()
            assert client.ask("POST", "/models/split/predict", body).json["status"] is True
        for _ in range(3):
            client.ask("POST", "/models/sum/predict", b'{"vector":[1,2,3]}')
    return gateway


@pytest.fixture
def dashboard(chromium: Browser, gateway: Gateway) -> Iterator[Dashboard]:
    """The page of that gateway, live; afterwards it must have complained of nothing."""
    dashboard = Dashboard(chromium, gateway.url)
    dashboard.until("live")
    yield dashboard
    dashboard.close()
    assert dashboard.complaints == []
