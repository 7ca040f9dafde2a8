"""The model server's load client: sets coefs, asks for every row of some CSV files, prints the hit rate.

    python3 client.py PORT COEF THREAD1-WORK.csv [THREAD2-WORK.csv …]
    python3 client.py 5440 "1.0,2.0,3.0" x1.csv x2.csv

Each file has a thread of its own, and each of its rows is one Predict. The last line on stdout is the share
of all rows that the server remembered.

Exit codes: 0 every row was answered, 1 the server answered one with an error, 2 an argument or a file
that makes no sense, 3 no answer from a server.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Ctrl-C ends it like any other program, without a stack trace
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import csv
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is said here, once, as a sentence
try:
    import grpc

    import modelserver_pb2
    import modelserver_pb2_grpc
except ModuleNotFoundError as error:
    sentence = f"client.py needs {error.name}: pip install 'pipeline-inference[grpc]'"
    if __name__ == "__main__":
        sys.exit(sentence)
    raise ModuleNotFoundError(sentence, name=error.name) from None

EXIT_OK, EXIT_REFUSED, EXIT_INPUT, EXIT_NO_ANSWER = 0, 1, 2, 3

TIMEOUT = 30.0  # seconds that a call may take
PROGRESS_TIME = 1.0  # seconds between two words on how far it is; what ends sooner says none

_NEGATIVE = re.compile(r"-(\d|\.|inf|nan)")


class ClientError(Exception):
    """Raised when it cannot go on; `code` is the process's exit code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Work:
    """One file's rows and how far they are; a thread of its own runs it, others may read the counts."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows = 0
        self.hits = 0

    def run(self, server: modelserver_pb2_grpc.ModelServerStub, stop: threading.Event) -> None:
        """Ask for every row, until told to stop."""
        for place, row in read_rows(self.path):
            if stop.is_set():
                return
            response = call(server.Predict, modelserver_pb2.PredictRequest(X=row), place)
            self.rows += 1
            self.hits += response.hit


def main(argv: Sequence[str] | None = None) -> int:
    """Ask for everything; an exit code."""
    given = sys.argv[1:] if argv is None else argv
    # argparse takes "-1.0,2.0" for a flag, and " -1.0,2.0" for what it is.
    arguments = _parser().parse_args([f" {each}" if _NEGATIVE.match(each) else each for each in given])
    works = [Work(path) for path in arguments.files]
    # A proxy of the environment is for the web, not for the server beside us.
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    with grpc.insecure_channel(f"{host}:{arguments.port}", [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            ask(modelserver_pb2_grpc.ModelServerStub(channel), arguments.coefs, works)
        except ClientError as error:
            print(f"client.py: {error}", file=sys.stderr)
            return error.code
    rows, hits = sum(work.rows for work in works), sum(work.hits for work in works)
    if not rows:
        print("client.py: there are no rows in these files, so nothing was asked", file=sys.stderr)
    print(hits / rows if rows else 0.0)
    return EXIT_OK


def ask(server: modelserver_pb2_grpc.ModelServerStub, coefs: Sequence[float], works: Sequence[Work]) -> None:
    """Set the coefs, then run all works side by side; `ClientError` of the first that failed."""
    call(server.SetCoefs, modelserver_pb2.SetCoefsRequest(coefs=coefs), "SetCoefs")
    stop = threading.Event()
    with ThreadPoolExecutor(len(works)) as threads:
        running: set[Future[None]] = {threads.submit(work.run, server, stop) for work in works}
        is_shown = False
        try:
            while running:
                done, running = wait(running, PROGRESS_TIME, FIRST_EXCEPTION)
                for each in done:
                    each.result()
                if running and show_progress(works):
                    is_shown = True
        finally:
            stop.set()  # for the others, which end at their next row
            if is_shown:
                print(file=sys.stderr)


def call(method: grpc.UnaryUnaryMultiCallable, request: object, place: str) -> Any:
    """A response without an error; `ClientError` otherwise, which says what it was for."""
    try:
        response = method(request, timeout=TIMEOUT)
    except grpc.RpcError as error:
        raise ClientError(EXIT_NO_ANSWER, f"{place}: {_no_answer(error)}") from None
    if response.error:
        raise ClientError(EXIT_REFUSED, f"{place}: {response.error}")
    return response


def _no_answer(error: grpc.RpcError) -> str:
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"no server answers there; start one with python server.py ({error.details()})"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {TIMEOUT:g} seconds"
    return f"{code.name}: {error.details()}"


def read_rows(path: str) -> Iterator[tuple[str, list[float]]]:
    """Every row of a CSV file without a header, with where it is; empty lines are no rows."""
    try:
        with open(path, newline="") as file:
            lines = csv.reader(file, skipinitialspace=True)
            for cells in lines:
                if cells:
                    place = f"{path}, line {lines.line_num}"
                    yield place, _numbers(cells, place)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ClientError(EXIT_INPUT, f"{path} cannot be read: {reason}") from None


def _numbers(cells: Sequence[str], place: str) -> list[float]:
    for column, cell in enumerate(cells, 1):
        try:
            float(cell)
        except ValueError:
            raise ClientError(EXIT_INPUT, f"{place}, column {column}: {cell!r} is no number") from None
    return list(map(float, cells))


def show_progress(works: Sequence[Work]) -> bool:
    """One line, written over itself, for a person who waits; whether anybody does."""
    if not sys.stderr.isatty():
        return False
    rows, hits = sum(work.rows for work in works), sum(work.hits for work in works)
    print(f"\r{rows:,} rows, {hits:,} hits", end="", file=sys.stderr, flush=True)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="client.py", description="Ask a model server for every row of some CSV files."
    )
    parser.add_argument("port", type=_port, metavar="PORT", help="where the server listens")
    parser.add_argument("coefs", type=_coefs, metavar="COEF", help='numbers with commas: "1.0,2.0,3.0"')
    parser.add_argument(
        "files", nargs="+", metavar="CSV", help="rows of numbers, no header; a thread for each"
    )
    parser.add_argument("--host", default="127.0.0.1", help="where the server is (default: %(default)s)")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number of 1 to 65535")
    return int(text)


def _coefs(text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not numbers with commas between, as in "1.0,2.0"'
        ) from None


if __name__ == "__main__":
    sys.exit(main())
