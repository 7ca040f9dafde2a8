"""A reader of the documentation: does what a page says, block by block, in a folder of their own."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.docs.pages import Block, matches
from tests.e2e.processes import MARK, ROOT, START, Gateway, Process, Site, clean_environment, wait_for

TIMEOUT = 120.0  # of one block
PARTS = ("gw.py", "worker.py", "server.py", "client.py", "scripts", "data", "deploy", "examples")
SHELL = 'set -eo pipefail\ncurl() { command curl -sS -m 60 --fail-with-body "$@"; }\n'

# Runs the blocks it is sent, one after the other, as one program.
PROGRAM = """
import contextlib, io, json, sys, traceback
names, answers = {"__name__": "__main__"}, sys.stdout
for line in sys.stdin:
    page, code = json.loads(line)
    printed, trace = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(code, page, "exec"), names)
        except BaseException:
            trace = traceback.format_exc()
    print(json.dumps([printed.getvalue(), trace]), file=answers, flush=True)
"""

# What is installed here, a page need not install: it only has to name extras that there are.
PIP = f"""#!{sys.executable}
import configparser, re, sys
extras = configparser.ConfigParser(interpolation=None)
extras.read({str(ROOT / "setup.cfg")!r})
asked = set(re.findall(r"[a-z]+", " ".join(re.findall(r"\\[(.*?)\\]", " ".join(sys.argv)))))
unknown = asked - set(extras["options.extras_require"])
sys.exit(f"there is no extra {{unknown}}" if unknown else 0)
"""


class Reader:
    """Runs the blocks of one page. Addresses that pages show are those of its site's gateway."""

    def __init__(self, page: str, folder: Path, site: Site, *, grpc_port: int) -> None:
        self._page = page
        self._folder = folder
        self._site = site
        self._said = ""
        self._python: subprocess.Popen[str] | None = None
        self._addresses = {
            ":54321": f":{site.rest_port}",
            ":8001": f":{grpc_port}",
            "python server.py": f"python server.py --port {grpc_port}",
            "5440": str(grpc_port),
        }
        programs = folder / ".programs"
        programs.mkdir(parents=True)
        self._environment = clean_environment() | {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PIPELINE_URL": f"http://127.0.0.1:{site.rest_port}",
            "PIPELINE_ADDR_REST": f"127.0.0.1:{site.rest_port}",
            "PIPELINE_ADDR_SERVICE": site.addr_service,
            "PIPELINE_ADDR_WORKER": site.addr_worker,
            MARK: site.mark,
        }
        (folder / "docs" / "img").mkdir(parents=True)
        for name in PARTS:
            (folder / name).symlink_to(ROOT / name)
        for name, text in (("pip", PIP), ("pipeline", f'#!/bin/sh\nexec {sys.executable} -m cli "$@"\n')):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)

    def close(self) -> None:
        """End the page's Python program."""
        if self._python is not None:
            self._python.kill()
            self._python.communicate()

    def read(self, block: Block) -> None:
        """Do what one block shows; `AssertionError` where that is not what happens."""
        if block.reason is not None:
            return
        if block.note == "prints":
            assert matches(self._said, self._here(block.code)), (
                f"{self._page} shows\n{block.code}\n{self._said}"
            )
        elif block.note == "starts":
            self._start(block)
        elif block.file is not None:
            path = self._folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)
        elif block.language == "python":
            self._said = self._run_python(block)
        elif block.language == "bash":
            done = self._run(self._here(block.code))
            assert done.returncode == 0, f"{self._page}:{block.line}: {done.stdout}{done.stderr}"
            self._said = done.stdout
        elif block.language == "console":
            self._type(block)

    def _here(self, text: str) -> str:
        for shown, here in self._addresses.items():
            text = text.replace(shown, here)
        return text

    def _run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", SHELL + script], cwd=self._folder, env=self._environment,
            capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip

    def _type(self, block: Block) -> None:
        """Each command behind a `$`, and what it says on both of its streams."""
        for command, shown in re.findall(
            r"^\$ (.*\n(?:(?<=\\\n).*\n)*)((?:(?!\$ ).*\n)*)", block.code, re.MULTILINE
        ):
            said = self._run(f"exec 2>&1\n{self._here(command)}").stdout
            assert matches(said, self._here(shown)), f"{self._page}:{block.line}: $ {command}{said}"

    def _run_python(self, block: Block) -> str:
        if self._python is None:
            with (self._folder / "python.log").open("w") as log:
                self._python = subprocess.Popen(
                    [sys.executable, "-c", PROGRAM], cwd=self._folder, env=self._environment,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                )  # fmt: skip
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        code = "\n" * (block.line - 1) + self._here(block.code)
        self._python.stdin.write(json.dumps([self._page, code]) + "\n")
        self._python.stdin.flush()
        ready, _, _ = select.select([self._python.stdout], [], [], TIMEOUT)
        assert ready, f"{self._page}:{block.line} is not over within {TIMEOUT} s"
        printed, trace = json.loads(self._python.stdout.readline())
        assert not trace, trace
        return str(printed)

    def _start(self, block: Block) -> None:
        for command in block.code.replace("\\\n", " ").splitlines():
            count = len(self._site.processes)
            kind = Gateway if "gw.py" in command else Process
            shell = ["bash", "-c", f"exec {self._here(command)}"]
            log = self._folder / f"{count}.log"
            self._site.processes.append(
                kind(f"{self._page}-{count}", shell, self._environment, log, self._popen)
            )
            self._wait_for(command, self._site.processes[-1])

    def _popen(self, command: list[str], **options: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen(command, **{**options, "cwd": self._folder})

    def _wait_for(self, command: str, started: Process) -> None:
        """Until what was started is there, as a person would see it."""
        if "server.py" in command:
            started.wait_for_line("listens")
            return
        if isinstance(started, Gateway):
            started.port = self._site.rest_port
            wait_for(lambda: started.lines("erves on ") or not started.is_alive, "its greeting", 2 * START)
        assert started.is_alive, started.output
        gateway = next(each for each in self._site.processes if isinstance(each, Gateway))
        wait_for(lambda: gateway.ask("GET", "/health/startup").status == 200, "the gateway has started")
        if "workers" in command or "worker.py" in command:
            found = re.search(r"--(?:min_)?workers (\d+)", command)
            ready = int(found[1]) if found else 1
            gateway.wait_status(
                lambda status: [each["state"] for each in status["workers"]].count("ready") >= ready,
                "workers",
            )
