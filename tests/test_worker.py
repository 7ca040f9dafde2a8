"""End to end: worker.py as a process of its own, with no gateway anywhere."""

import base64
import ctypes
import io
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import worker

ROOT = Path(__file__).resolve().parent.parent
GOOD = next((ROOT / "data").glob("000127a3*.b64"))
PATIENCE = 60.0


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("PIPELINE_")} | more


class Process:
    """A worker with nobody to talk to; `log` is what it has said so far."""

    def __init__(self, *arguments: str) -> None:
        # Port 9 is discard's: nobody listens there, and if somebody did, it would not be a gateway.
        addresses = ["--addr_service", "tcp://127.0.0.1:9", "--addr_worker", "tcp://127.0.0.1:9"]
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "worker.py"), "--name", "bob", *addresses, *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
        self.log = ""

    def wait_for(self, text: str) -> None:
        assert self.process.stderr is not None
        deadline = time.monotonic() + PATIENCE
        while text not in self.log:
            ready, _, _ = select.select([self.process.stderr], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self.process.stderr.fileno(), 65536) if ready else b""
            assert piece, f"it never said {text!r}: {self.log}"
            self.log += piece.decode()

    def end(self) -> tuple[int, str]:
        """Its exit code, and all it said on both outputs."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.decode() + self.log + err.decode()


@pytest.fixture
def start() -> Iterator[type[Process]]:
    started: list[Process] = []

    class Kept(Process):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            started.append(self)

    yield Kept
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        for pipe in (each.process.stdin, each.process.stdout, each.process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.mark.parametrize(
    "signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGTERM, signal.SIGINT]]
)
def test_it_looks_for_a_gateway_until_a_signal_stops_it_in_good_order(start, signals: list[int]) -> None:
    process = start()
    process.wait_for("looking for the gateway at=tcp://127.0.0.1:9 worker=bob")
    for number in signals:
        process.process.send_signal(number)
    code, said = process.end()
    assert code == 0
    assert "leaving worker=bob finished=True" in said
    assert "Traceback" not in said


def test_a_signal_that_another_of_its_threads_is_given_stops_it_as_well(start) -> None:
    process = start()
    process.wait_for("looking for the gateway")
    pid = process.process.pid
    switches = -1
    while switches != (switches := main_switches(pid)):  # until its main thread sleeps
        time.sleep(0.2)
    others = [int(each.name) for each in Path(f"/proc/{pid}/task").iterdir() if int(each.name) != pid]
    assert ctypes.CDLL(None).tgkill(pid, others[0], signal.SIGTERM) == 0
    code, said = process.end()
    assert code == 0
    assert "leaving worker=bob finished=True" in said


def test_a_signal_while_it_still_imports_torch_stops_it_as_well(start) -> None:
    process = start()
    # Its handlers are in place within milliseconds of Python's own start, and the import takes a second.
    deadline = time.monotonic() + PATIENCE
    while not handles(process.process.pid, signal.SIGTERM):
        assert time.monotonic() < deadline
    process.process.send_signal(signal.SIGINT)
    code, said = process.end()
    assert code == 0
    assert "Traceback" not in said


def main_switches(pid: int) -> int:
    """How often a process's main thread has gone to sleep."""
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_with_its_parent_gone_it_ends_when_it_was_told_to(start) -> None:
    process = start("--exit_with_parent")
    process.wait_for("looking for the gateway")
    assert process.process.poll() is None
    process.process.stdin.close()
    process.process.stdin = None
    code, said = process.end()
    assert code == 0
    assert "leaving worker=bob" in said
    process.process.stdin = io.BytesIO()


def test_without_a_gateway_it_leaves_when_it_was_told_to(start) -> None:
    process = start("--gateway_timeout", "0.3")
    process.wait_for("without a gateway worker=bob seconds=1.0")
    code, said = process.end()
    assert code == 0
    assert "leaving worker=bob finished=True" in said


def test_without_that_flag_the_end_of_its_input_means_nothing(start) -> None:
    process = start()
    process.process.stdin.close()
    process.wait_for("looking for the gateway")
    process.process.stdin = None
    process.process.send_signal(signal.SIGTERM)
    assert process.end()[0] == 0
    process.process.stdin = io.BytesIO()


def test_a_flag_that_makes_no_sense_is_refused_before_torch_is_imported(start) -> None:
    code, said = start("--cache_size", "lots").end()
    assert code == 2
    assert "--cache_size must be a whole number, not 'lots'" in said
    assert "Traceback" not in said


def test_an_address_that_cannot_be_dialled_is_a_sentence(start) -> None:
    code, said = start("--addr_service", "ipc:///" + "x" * 200).end()
    assert code == 2
    assert said.rstrip().endswith("xxx': ipc takes a path of at most 107 bytes")
    assert "Traceback" not in said


# --- --check, in this process


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in os.environ:
        if name.startswith("PIPELINE_"):
            monkeypatch.delenv(name)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = worker.main(["--check", str(path), "--device", "cpu"])
    said = capsys.readouterr()
    return code, said.out, said.err


def serves(path: Path) -> tuple[int, str, str]:
    return 0, f"{path} serves: a torch state_dict on cpu, rows of FP32 [2] to FP32 [1].\n", ""


def test_check_finds_what_set_weights_takes_good(capsys) -> None:
    assert check(GOOD, capsys) == serves(GOOD)


def test_check_takes_base64_wrapped_at_76_as_the_tool_of_that_name_writes_it(capsys, tmp_path: Path) -> None:
    for name, text in {
        "wrapped": base64.encodebytes(base64.b64decode(GOOD.read_bytes())),
        "windows": base64.encodebytes(base64.b64decode(GOOD.read_bytes())).replace(b"\n", b"\r\n"),
    }.items():
        (tmp_path / name).write_bytes(text)
        assert check(tmp_path / name, capsys) == serves(tmp_path / name)


@pytest.mark.parametrize("is_new_format", [True, False])
def test_check_takes_what_torch_save_wrote(capsys, tmp_path: Path, is_new_format: bool) -> None:
    state = torch.load(io.BytesIO(base64.b64decode(GOOD.read_bytes())), weights_only=True)
    torch.save(state, tmp_path / "weights.pt", _use_new_zipfile_serialization=is_new_format)
    assert check(tmp_path / "weights.pt", capsys) == serves(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (b"not base64!", "the file is of none of the known formats: torch state_dict, TorchScript program, "),
        (b"\xff\xfe\x00", "the file is of none of the known formats: "),
        (
            base64.b64encode(b"PK\x03\x04"),
            "it is base64 text, and of what it stands for, the file is of none of the known formats: ",
        ),
        (b"\n", "the file is empty"),
        (None, "the weights cannot be read: No such file or directory"),
    ],
)
def test_check_says_why_a_file_would_not_serve(
    capsys, tmp_path: Path, data: bytes | None, sentence: str
) -> None:
    path = tmp_path / "weights"
    if data is not None:
        path.write_bytes(data)
    code, out, err = check(path, capsys)
    assert (code, out) == (1, "")
    assert err.startswith(f"{path} would not serve: {sentence}")
    assert err.count("\n") == 1


def test_check_refuses_the_bad_sample_and_a_folder(capsys, tmp_path: Path) -> None:
    bad = ROOT / "data" / "bad_tensors.b64"
    code, _, err = check(bad, capsys)
    assert code == 1
    assert err.startswith(f"{bad} would not serve: ")
    assert check(tmp_path, capsys) == (
        1,
        "",
        f"{tmp_path} would not serve: the weights cannot be read: Is a directory\n",
    )
