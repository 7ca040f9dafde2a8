"""Writes modelserver_pb2.py and modelserver_pb2_grpc.py anew, from modelserver.proto, and what the gateway
loads, gateway/doors/grpc/services.binpb, from the .proto files beside it.

    python scripts/generate.py [FOLDER]      (default: the repository)

What a generator writes runs with the libraries of its own release and later ones. So it is an old one on
purpose; and as it asks for old libraries itself, it is fetched with pip and kept apart from those installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SERVICES = Path("gateway") / "doors" / "grpc"
# What it writes needs protobuf 5.29 and grpcio 1.71.2, as setup.cfg says, and runs with protobuf 6 and 7 too.
GENERATOR = "grpcio-tools==1.71.2"


def main(argv: Sequence[str] | None = None) -> int:
    """Generate; the exit code of the first step that failed, else 0."""
    arguments = sys.argv[1:] if argv is None else argv
    folder = Path(arguments[0] if arguments else ROOT).resolve()
    with tempfile.TemporaryDirectory() as kept_apart:
        pip = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--target"]
        protoc = ["-m", "grpc_tools.protoc"]
        protos = sorted(path.name for path in (ROOT / SERVICES).glob("*.proto"))
        written = folder / SERVICES / "services.binpb"
        written.parent.mkdir(parents=True, exist_ok=True)
        steps = (
            [*pip, kept_apart, "--only-binary", ":all:", GENERATOR],
            [
                *protoc,
                f"-I{ROOT}",
                f"--python_out={folder}",
                f"--grpc_python_out={folder}",
                "modelserver.proto",
            ],
            [*protoc, f"-I{ROOT / SERVICES}", f"--descriptor_set_out={written}", *protos],
        )
        environment = os.environ | {"PYTHONPATH": kept_apart}
        runs = (subprocess.run([sys.executable, *step], env=environment, check=False) for step in steps)
        return next((run.returncode for run in runs if run.returncode), 0)


if __name__ == "__main__":
    sys.exit(main())
