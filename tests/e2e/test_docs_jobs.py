"""End to end: what docs/jobs.md shows works, and its example too."""

from __future__ import annotations

import re
import subprocess
import sys

from gateway.doors.jobs import Order
from tests.e2e.processes import ROOT, Gateway, Site, wait_for
from tests.e2e.weights import ONE, stored

JOBS = (ROOT / "docs" / "jobs.md").read_text()
URL = "http://127.0.0.1:54321"


def start(site: Site) -> Gateway:
    """A gateway with the sample weights, a worker, and the folder that the page speaks of."""
    (site.folder / "batch").mkdir()
    gateway = site.start_gateway("--batch_root", str(site.folder / "batch"))
    site.spawn_worker()
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, stored(ONE)).json["status"] is True
    return gateway


def test_the_commands_and_the_example_do_what_the_page_says(site: Site) -> None:
    gateway = start(site)
    sent, batch = re.findall(r"<!-- run -->\n```bash\n(.*?)```", JOBS, re.DOTALL)
    for command in (sent, batch):
        done = subprocess.run(
            ["bash", "-c", command.replace(URL, gateway.url).replace("curl ", "curl -sS -m 20 ")],
            cwd=site.folder, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert '"state":"' in done.stdout, done
    out = site.folder / "batch" / "out.csv"
    wait_for(out.exists, "the output")
    shown = JOBS.split("`batch/out.csv`, a moment later:\n\n```\n")[1].split("```")[0]
    digits = re.compile(r"\.\d+")  # the last of which depend on the machine
    assert digits.sub(".", out.read_text()) == digits.sub(".", shown)
    (site.folder / "batch" / "more.csv").write_text("0.3,0.7\n1,oops\n")
    example = subprocess.run(
        [
            sys.executable, str(ROOT / "examples" / "batch_job.py"), gateway.url,
            (site.folder / "batch" / "more.csv").as_uri(), (site.folder / "batch" / "again.csv").as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (example.returncode, example.stderr) == (0, "")
    assert example.stdout.splitlines()[-1].endswith("done     100%  2 rows, 1 failed")


def test_the_table_of_fields_names_all_of_them() -> None:
    table = JOBS.split("| field of `POST /jobs` |")[1].split("\n\n")[0]
    named = re.findall(r"`([a-z_]+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert sorted(named) == sorted(Order.__struct_fields__)
