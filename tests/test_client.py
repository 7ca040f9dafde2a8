"""End to end: client.py as a process, with real CSV files, against a real server or what is none."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import client
import modelserver_pb2 as pb
import modelserver_pb2_grpc
from tests.services.model_server import model_server

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with model_server() as running:
        yield running.port


def run(folder: Path, port: int, coefs: str, *files: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "client.py"), str(port), coefs, *files],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def write(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return [f"{name}.csv" for name in files]


@pytest.mark.parametrize(
    ("files", "rate"),
    [
        ({"x1": "1,2,3\n4,5,6\n1,2,3\n", "x2": "4,5,6\n7,8,9\n"}, "0.4"),
        ({"x1": "1,2,3\n2,2,3\n3,2,3\n4,2,3\n5,2,3\n1,2,3\n"}, "0.16666666666666666"),
        ({"x1": "1.00004,2,3\r\n1.00001,2,3\r\n"}, "0.5"),
        ({"x1": "1, 2, 3\n\n1,2e0,3.0\n1,2,3"}, "0.6666666666666666"),
        ({"x1": "1,2,3\n", "x2": "1,2,3\n", "x3": "1,2,3\n", "x4": "1,2,3\n"}, "0.75"),
        ({"x1": "".join(f"{n},0,0\n" for n in [*range(11), 0])}, "0.0"),
        ({"x1": "".join(f"{n},0,0\n" for n in [*range(10), *range(10)])}, "0.5"),
        ({"x1": "nan,0,0\ninf,0,0\nnan,0,0\n"}, "0.3333333333333333"),
    ],
)
def test_the_last_line_is_the_hit_rate_of_all_rows(tmp_path, port, files, rate) -> None:
    assert run(tmp_path, port, "1.0,2.0,3.0", *write(tmp_path, **files)) == (0, f"{rate}\n", "")


def test_each_run_starts_with_an_empty_cache(tmp_path, port) -> None:
    files = write(tmp_path, x1="1,2,3\n1,2,3\n")
    assert [run(tmp_path, port, "1.0,2.0,3.0", *files)[1] for _ in range(2)] == ["0.5\n", "0.5\n"]


def test_a_single_coef_will_do_and_the_first_may_be_negative(tmp_path, port) -> None:
    assert run(tmp_path, port, "2", *write(tmp_path, x1="1\n1\n"))[:2] == (0, "0.5\n")
    assert run(tmp_path, port, "-1.5,2", *write(tmp_path, x1="1,1\n1,1\n"))[:2] == (0, "0.5\n")


def test_no_rows_at_all_are_no_hits_and_are_told_of(tmp_path, port) -> None:
    said = "client.py: there are no rows in these files, so nothing was asked\n"
    assert run(tmp_path, port, "1.0", *write(tmp_path, x1="", x2="\n")) == (0, "0.0\n", said)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1,2,3\n1,two,3\n", "bad.csv, line 2, column 2: 'two' is no number"),
        ("1,2,\n", "bad.csv, line 1, column 3: '' is no number"),
        (None, "bad.csv cannot be read: No such file or directory"),
        (b"\xff\xfe", "bad.csv cannot be read: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_file_that_makes_no_sense_is_a_sentence(tmp_path, port, text, sentence) -> None:
    files = write(tmp_path, good="1,2,3\n" * 5)
    if text is not None:
        (tmp_path / "bad.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    code, out, err = run(tmp_path, port, "1.0,2.0,3.0", *files, "bad.csv")
    assert (code, out) == (client.EXIT_INPUT, "")
    assert err.startswith(f"client.py: {sentence}")
    assert err.count("\n") == 1


def test_an_error_in_a_response_is_a_sentence_with_the_row(tmp_path, port) -> None:
    assert run(tmp_path, port, "1.0,2.0,3.0", *write(tmp_path, x1="1,2,3\n\n1,2\n")) == (
        client.EXIT_REFUSED,
        "",
        "client.py: x1.csv, line 3: there are 3 coefs, so X has to be of shape [rows, 3], not [1, 2]\n",
    )


def test_a_server_that_is_not_there_is_a_sentence(tmp_path) -> None:
    with socket.socket() as bound:  # held and not listening, so that nobody else answers on it
        bound.bind(("127.0.0.1", 0))
        code, out, err = run(tmp_path, bound.getsockname()[1], "1.0", *write(tmp_path, x1="1\n"))
    assert (code, out) == (client.EXIT_NO_ANSWER, "")
    assert err.startswith("client.py: SetCoefs: no server answers there; start one with python server.py (")
    assert err.count("\n") == 1


def test_a_server_that_goes_away_in_between_ends_all_threads(tmp_path) -> None:
    with model_server() as running:
        (tmp_path / "long.csv").write_text("1\n" * 1_000_000)
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "client.py"), str(running.port), "1", "long.csv", "long.csv"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while not is_asked_for_one(running.stub):
            pass
        running.process.kill()
        out, err = process.communicate(timeout=60)
        running.process.communicate(timeout=60)
    assert (process.returncode, out) == (client.EXIT_NO_ANSWER, "")
    assert err.startswith("client.py: long.csv, line ")
    assert err.count("\n") == 1


def is_asked_for_one(stub: modelserver_pb2_grpc.ModelServerStub) -> bool:
    """Whether somebody else asks for 1 just now: ten other rows are all that the server remembers."""
    rows = [[float(n)] for n in [*range(2, 12), 1]]
    return [stub.Predict(pb.PredictRequest(X=row), timeout=30).hit for row in rows][-1]


class Stalled(modelserver_pb2_grpc.ModelServerServicer):
    """Never answers a prediction, until its caller has gone."""

    def SetCoefs(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.SetCoefsResponse()

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        while context.is_active():
            context.code()
        return pb.PredictResponse()


def test_a_server_that_does_not_answer_is_waited_for_only_so_long(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.5)
    server = grpc.server(ThreadPoolExecutor(1))
    modelserver_pb2_grpc.add_ModelServerServicer_to_server(Stalled(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        (tmp_path / "x1.csv").write_text("1\n")
        assert client.main([str(port), "1.0", str(tmp_path / "x1.csv")]) == client.EXIT_NO_ANSWER
    finally:
        server.stop(None).wait()
    assert capsys.readouterr().err == f"client.py: {tmp_path}/x1.csv, line 1: no answer within 0.5 seconds\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["0", "1.0", "x1.csv"], "argument PORT: '0' is no port: give a number of 1 to 65535"),
        (["http", "1.0", "x1.csv"], "argument PORT: 'http' is no port: give a number of 1 to 65535"),
        (["1", "1.0;2.0", "x1.csv"], "argument COEF: '1.0;2.0' is not numbers with commas between"),
        (["1", "1.0"], "the following arguments are required: CSV"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(arguments: list[str], sentence: str, capsys) -> None:
    with pytest.raises(SystemExit, match=str(client.EXIT_INPUT)):
        client.main(arguments)
    assert f"client.py: error: {sentence}" in capsys.readouterr().err


def test_on_a_terminal_it_says_how_far_it_is_and_only_if_that_takes_a_while(
    tmp_path, port, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(client, "PROGRESS_TIME", 0.1)
    master, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stderr, os.fdopen(master, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", stderr)
        (tmp_path / "x1.csv").write_text("1\n" * 2000)
        assert client.main([str(port), "1.0", str(tmp_path / "x1.csv")]) == 0
        shown = screen.read(65536).decode()
    assert capsys.readouterr().out == "0.9995\n"
    assert "rows, " in shown
