"""deploy/ray: Ray itself finds nothing wrong with the file, and it starts nodes as docs/ray.md says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.apart

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = dict(re.findall(r"```bash\n# (.*?)\n(.*?)```", (ROOT / "docs" / "ray.md").read_text(), re.DOTALL))
EVERYWHERE = BLOCKS["on every machine, in each shell that starts something"]


@pytest.fixture(scope="module")
def config() -> Any:
    return yaml.safe_load((ROOT / "deploy" / "ray" / "cluster.yaml").read_text())


def words(text: str) -> set[str]:
    """Those that set something, but for addresses."""
    return {each for each in text.split() if "=" in each and "address" not in each}


def test_ray_takes_it(config: Any) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util", reason="pip install -e '.[apart]'")
    prepared = util.prepare_config(config)
    util.validate_config(prepared)
    assert prepared["max_workers"] == len(config["provider"]["worker_ips"])


@pytest.mark.parametrize(
    ("commands", "shown"),
    [("head_start_ray_commands", "on the head"), ("worker_start_ray_commands", "on each other machine")],
)
def test_nodes_are_started_as_the_docs_show(config: Any, commands: str, shown: str) -> None:
    started = words(config[commands][-1]) - {"--autoscaling-config=~/ray_bootstrap_config.yaml"}
    assert started == words(EVERYWHERE + BLOCKS[shown])


def test_every_machine_has_the_extras_that_the_docs_name(config: Any) -> None:
    assert BLOCKS["on every machine, once"].strip() in config["setup_commands"][-1].replace(
        "install -q", "install"
    )
