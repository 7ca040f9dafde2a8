"""end to end: every curl script against a real HTTP server, from another folder, as a user would call it."""

from __future__ import annotations

import email.parser
import email.policy
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
DATA = ROOT / "data"

bash_files = sorted(
    [path for path in SCRIPTS.iterdir() if path.is_file() and path.suffix in ("", ".sh")]
    + [ROOT / ".ci" / "run"]
)
bad_nn_id = "f" * 32
predictions = {
    "predict1.sh": b'{"vector":[0.1,0.2]}',
    "predict2.sh": b'{"vector":[0.446,0.554]}',
    "predict_wrong_tensor.sh": b'{"vector":[0.1,0.2,0.3]}',
}
uploads = {
    "set_weights1.sh": ("000127a35b5f462b8ec68fb4d905ac36", "000127a35b5f462b8ec68fb4d905ac36_*.b64"),
    "set_weights2.sh": ("0d3c5dffa4374c77a554ed38c9c50296", "0d3c5dffa4374c77a554ed38c9c50296_*.b64"),
    "set_weights3.sh": ("dfd2cd54a1ec4a408285f547f6827ea2", "dfd2cd54a1ec4a408285f547f6827ea2_*.b64"),
    "set_weights_bad_tensors.sh": (bad_nn_id, "bad_tensors.b64"),
}
curl_scripts = [*predictions, *uploads, "set_weights_bad_base64.sh", "status.sh"]


class Received(NamedTuple):
    line: str
    content_type: str
    body: bytes


class Listener(ThreadingHTTPServer):
    """Gives the same answer to every request, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = 200
        self.answer = b'{"status":true}'
        self.received: list[Received] = []


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        received = Received(self.requestline, self.headers.get("Content-Type", ""), body)
        self.server.received.append(received)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run_script(script: Path, cwd: Path, url: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(script)],
        cwd=cwd,
        env={**os.environ, "PIPELINE_URL": url, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )


def fields_of(received: Received) -> dict[str, tuple[str | None, str, bytes]]:
    """Return each multipart field's file name, content type and bytes."""
    head = f"Content-Type: {received.content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + received.body)
    return {
        str(part.get_param("name", header="content-disposition")): (
            part.get_filename(),
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    }


@pytest.mark.parametrize("path", bash_files, ids=lambda path: path.name)
def test_a_script_is_bash_that_parses(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert os.access(path, os.X_OK) == (path.name not in ("lib.sh", "venv.sh"))


def test_every_curl_script_is_tested_here():
    assert {path.name for path in SCRIPTS.glob("*.sh")} == {*curl_scripts, "lib.sh", "venv.sh"}


@pytest.mark.parametrize("name", predictions)
def test_a_predict_script_posts_its_vector(name, listener, tmp_path):
    run = run_script(SCRIPTS / name, tmp_path, listener.url)
    assert (run.returncode, run.stdout, run.stderr) == (0, b'{"status":true}\n', b"")
    assert listener.received == [Received("POST /predict HTTP/1.1", "application/json", predictions[name])]


@pytest.mark.parametrize("name", uploads)
def test_a_set_weights_script_uploads_its_file(name, listener, tmp_path):
    run = run_script(SCRIPTS / name, tmp_path, listener.url)
    assert (run.returncode, run.stdout, run.stderr) == (0, b'{"status":true}\n', b"")
    (received,) = listener.received
    assert received.line == "PUT /set_weights HTTP/1.1"
    nn_id, pattern = uploads[name]
    (path,) = DATA.glob(pattern)
    assert fields_of(received) == {
        "nn_id": (None, "text/plain", nn_id.encode()),
        "data": (path.name, "application/octet-stream", path.read_bytes()),
    }


def test_bad_base64_is_uploaded_as_a_file(listener, tmp_path):
    listener.status, listener.answer = 400, b'{"status":false,"message":"weights data has wrong format"}'
    run = run_script(SCRIPTS / "set_weights_bad_base64.sh", tmp_path, listener.url)
    assert (run.returncode, run.stdout, run.stderr) == (22, listener.answer + b"\n", b"")
    (received,) = listener.received
    assert received.line == "PUT /set_weights HTTP/1.1"
    assert fields_of(received) == {
        "nn_id": (None, "text/plain", bad_nn_id.encode()),
        "data": ("bad_base64.b64", "application/octet-stream", b"this is not base64!"),
    }


def test_status_asks_for_the_status(listener, tmp_path):
    run = run_script(SCRIPTS / "status.sh", tmp_path, listener.url)
    assert (run.returncode, run.stdout, run.stderr) == (0, b'{"status":true}\n', b"")
    assert listener.received == [Received("GET /status HTTP/1.1", "", b"")]


def test_an_address_may_end_in_a_slash_and_a_proxy_is_not_asked_for_this_machine(listener, tmp_path):
    proxied = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "example.org"}
    run = run_script(SCRIPTS / "status.sh", tmp_path, f"{listener.url}/", **proxied)
    assert run.returncode == 0
    assert listener.received == [Received("GET /status HTTP/1.1", "", b"")]


def test_an_answer_of_several_lines_is_printed_as_it_is(listener, tmp_path):
    listener.status, listener.answer = 503, b'{\n"message": "Server is busy \\n %s"\n}'
    run = run_script(SCRIPTS / "status.sh", tmp_path, listener.url)
    assert (run.returncode, run.stdout, run.stderr) == (22, listener.answer + b"\n", b"")


@pytest.mark.parametrize("name", curl_scripts)
def test_a_server_that_is_not_there_is_reported(name, tmp_path):
    with socket.socket() as bound:  # held and not listening, so that nobody else answers on it
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        run = run_script(SCRIPTS / name, tmp_path, url)
    assert (run.returncode, run.stdout) == (7, b"")
    curls, ours = run.stderr.decode().splitlines()
    assert curls.startswith("curl: (7) ")
    assert ours == (
        f"No answer from {url}. Start a gateway (python gw.py --workers 2), "
        "or say where one is: PIPELINE_URL=http://HOST:PORT"
    )


def test_without_curl_the_scripts_say_how_to_get_it(tmp_path):
    for command in ("bash", "dirname"):
        (tmp_path / command).symlink_to(str(shutil.which(command)))
    run = run_script(SCRIPTS / "status.sh", tmp_path, "http://127.0.0.1:1", PATH=str(tmp_path))
    assert (run.returncode, run.stdout) == (127, b"")
    assert run.stderr == b"curl is needed and not installed: apt install curl\n"


def test_the_scripts_work_from_a_repository_with_an_awkward_name(listener, tmp_path):
    root = tmp_path / 'a "b", c;d'
    shutil.copytree(SCRIPTS, root / "scripts")
    shutil.copytree(DATA, root / "data")
    run = run_script(root / "scripts" / "set_weights1.sh", tmp_path, listener.url, CDPATH=str(tmp_path))
    assert (run.returncode, run.stdout, run.stderr) == (0, b'{"status":true}\n', b"")
    (path,) = DATA.glob(uploads["set_weights1.sh"][1])
    assert fields_of(listener.received[0])["data"] == (
        path.name,
        "application/octet-stream",
        path.read_bytes(),
    )


def run_use_venv(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run what scripts/test begins with, in a copy that has nothing to install."""
    shutil.copytree(SCRIPTS, tmp_path / "root" / "scripts", dirs_exist_ok=True)
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt"):
        (tmp_path / "root" / name).touch()
    script = f'. {tmp_path}/root/scripts/venv.sh; install() {{ say "installing $1"; }}; use_venv "$@"'
    return subprocess.run(
        ["bash", "-c", script, "bash", "test"],
        env={**os.environ, "VENV": str(tmp_path / "venv"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_installed_once_and_again_after_a_change(tmp_path):
    first = run_use_venv(tmp_path)
    assert first.returncode == 0
    assert first.stderr.startswith(f"making {tmp_path}/venv with Python 3.")
    assert first.stderr.endswith("\ninstalling test\n")
    assert run_use_venv(tmp_path).stderr == ""
    (tmp_path / "root" / "constraints.txt").write_text("torch==2.13.0\n")
    assert run_use_venv(tmp_path).stderr == "installing test\n"
    assert run_use_venv(tmp_path).stderr == ""


def test_a_folder_that_is_no_virtual_environment_is_left_alone(tmp_path):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "thesis.txt").touch()
    run = run_use_venv(tmp_path)
    assert run.returncode == 1
    assert run.stderr == (
        f"{tmp_path}/venv is not empty and no virtual environment: name another with VENV=DIR\n"
    )
    assert [path.name for path in (tmp_path / "venv").iterdir()] == ["thesis.txt"]


def fake_python(path: Path, *, version: tuple[int, int], has_venv: bool) -> str:
    """Write a program that answers as such a Python would, as far as the scripts ask."""
    real = shutil.which("python3")
    path.write_text(f"""#!/bin/sh
case "$2" in
*ensurepip*) exit {0 if has_venv else 1} ;;
*) exec {real} -c "import sys; sys.version_info = {version}; exec(sys.argv[1])" "$2" ;;
esac
""")
    path.chmod(0o755)
    return str(path)


def test_a_python_that_is_too_old_is_refused_with_a_sentence(tmp_path):
    python = fake_python(tmp_path / "python", version=(3, 9), has_venv=True)
    run = run_use_venv(tmp_path, PYTHON=python)
    assert run.returncode == 1
    assert run.stderr == f"PYTHON={python} is not a Python of 3.10 to 3.13 that runs\n"


def test_a_python_without_venv_is_refused_with_what_to_install(tmp_path):
    python = fake_python(tmp_path / "python", version=(3, 12), has_venv=False)
    run = run_use_venv(tmp_path, PYTHON=python)
    assert run.returncode == 1
    assert run.stderr == (
        f"{python} cannot make virtual environments: apt install python3.12-venv (or python3-venv)\n"
    )
