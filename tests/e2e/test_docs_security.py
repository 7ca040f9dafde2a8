"""end to end: docs/security.md says what the programs do: its commands run, its limits are the flags'."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from common.flags import options_of
from common.grpc.limits import REFUSALS as OF_GRPC
from common.limit_settings import LimitSettings
from common.settings import GatewaySettings
from common.tokens import read_tokens
from gateway.http1.limits import REFUSALS as OF_HTTP
from tests.e2e.processes import ROOT, Gateway, Site

SECURITY = (ROOT / "docs" / "security.md").read_text()
LIMITS = SECURITY.split("\n## Limits\n")[1].split("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in LIMITS.splitlines()
    if line.startswith("| ") and not line.startswith("| limit")
]


def test_the_commands_make_tokens_and_a_gateway_that_knows_them(site: Site):
    commands, start = re.findall(r"```bash\n(.*?)```", SECURITY, re.DOTALL)
    pipeline = f'pipeline() {{ "{sys.executable}" -m cli "$@"; }}'
    script = "\n".join([pipeline, commands, "echo $PIPELINE_TOKEN"])
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-ec", script], cwd=site.folder, env=told, capture_output=True, text=True, check=True
    )
    admin = done.stdout.split()[-1]
    tokens = read_tokens(site.folder / "tokens.json")
    assert [(each.role, each.name) for each in tokens] == [("admin", "me"), ("predict", "shop")]
    words = start.split()
    assert words[:2] == ["python", "gw.py"]
    here = [f"127.0.0.1:{site.rest_port}" if each.startswith("0.0.0.0") else each for each in words[2:]]
    here = [str(site.folder / "tokens.json") if each == "tokens.json" else each for each in here]
    gateway = site.spawn(Gateway, ROOT / "gw.py", *here, *site.fleet, "--ephemeral")
    gateway.port = site.rest_port
    gateway.wait_for_line("Pipeline serves on")
    assert gateway.ask("GET", "/status").status == 401
    assert gateway.ask("GET", "/status", authorization=f"Bearer {admin}").status == 200


def test_the_table_of_limits_has_every_flag_with_its_default():
    settings, options = GatewaySettings(), options_of(GatewaySettings)
    shown = {flag.removeprefix("--"): row[1] for row in ROWS for flag in re.findall(r"--\w+", row[2])}
    assert set(shown) == {*options_of(LimitSettings), "queue_max"}
    for name, default in shown.items():
        told = options[name].kind.show(getattr(settings, name))
        number = default.replace(",", "").removesuffix(" a second").removesuffix(" B/s").removesuffix(" s")
        assert number == told.removesuffix(".0"), name


def test_the_table_of_limits_names_everything_that_is_counted():
    named = {word for row in ROWS for word in re.findall(r"`(\w+)`", row[4]) if not row[4].startswith("code")}
    assert named - {"pipeline_token_refusals_total"} == {*OF_HTTP, *OF_GRPC, "json", "depth"}


def test_what_is_counted_is_on_the_page_before_it_ever_happens(site: Site):
    page = site.start_gateway().ask("GET", "/metrics").body.decode()
    for protocol, names in (("http", OF_HTTP), ("grpc", OF_GRPC)):
        for name in names:
            assert f'pipeline_limited_total{{protocol="{protocol}",limit="{name}"}} 0\n' in page
    assert 'pipeline_limited_total{protocol="json",limit="depth"} 0\n' in page
    assert json.dumps(page).count("pipeline_token_refusals_total{") == 3
