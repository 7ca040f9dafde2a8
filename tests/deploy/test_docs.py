"""Collaboration: what docs/kubernetes.md shows is taken by the programs that it is for, and its tables are
those of the chart."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from common.settings import GatewaySettings
from gateway.launchers.ids import WorkerId
from gateway.launchers.kubernetes.pods import check_template, make_pod
from gateway.launchers.launcher import WorkerSpec
from tests.deploy.conftest import CHART, ROOT
from tests.services.kubernetes_admission import admit

pytestmark = pytest.mark.apart

DOCS = (ROOT / "docs" / "kubernetes.md").read_text()
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL) for line in block.splitlines()
]


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("helm ")])
def test_helm_takes_its_command(run, command):
    _, verb, *arguments = shlex.split(command)
    assert verb in ("install", "upgrade")
    asks_a_cluster = {"--reuse-values", "--create-namespace"}
    done = run("helm", "template", *(each for each in arguments if each not in asks_a_cluster))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("kubectl ")])
def test_kubectl_knows_its_command(run, command):
    """What it does with files, another test tries against a server; this asks for the flags alone."""
    words = shlex.split(command)[1:]
    done = run("kubectl", *words, "--help")
    assert done.returncode == 0, done.stderr
    for path in (each for each in words if each.startswith("deploy/")):
        assert (ROOT / path).exists()


def test_every_command_is_of_a_program_that_is_tried():
    programs = {command.split()[0] for command in COMMANDS}
    assert programs == {"docker", "helm", "kubectl", "scripts/set_weights1.sh"}
    for command in COMMANDS:
        for path in re.findall(r"(?:deploy|scripts)/\S+", command):
            assert (ROOT / path).exists()


def test_the_template_that_is_shown_is_one():
    [shown] = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    template = yaml.safe_load(shown)
    check_template(template)
    admit(make_pod(WorkerId("shop", 0, 1), WorkerSpec(), image="x", template=template), "default")


def test_the_tables_are_of_values_and_flags_that_are_there():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    named = re.findall(r"^\| (`[a-z]+\.[^|]*) \|", DOCS, re.MULTILINE)
    assert len(named) == 8
    for name in re.findall(r"`([a-zA-Z.]+)`", " ".join(named)):
        value = values
        for part in name.split("."):
            value = value[part]
    flags = re.findall(r"^\| (`--[^|]*) \|", DOCS, re.MULTILINE)
    known = set(GatewaySettings.__dataclass_fields__)
    assert set(re.findall(r"--([a-z_]+)", " ".join(flags))) <= known
