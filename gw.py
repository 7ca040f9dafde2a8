"""The gateway's main: flags and environment, then serve until told to stop. `python gw.py -h` lists them.
`python gw.py deploy MODEL` does the same, and has a model's file serve (`gateway.deploy`);
`python gw.py certs` makes certificates for a fleet (`gateway.certificates`).

Exit codes: 0 stopped in good order, 1 it could not start (an address in use, a state directory in use, a
model that would not serve), 2 a flag or variable that makes no sense.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # first of all: until somebody hears it, Ctrl-C is quiet, while we import too
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import gc
import os
import socket
import sys
from collections.abc import Sequence
from functools import partial

import trio

from common.addresses import parse_address
from common.credentials import own_context
from common.errors import LinkError, PipelineError
from common.link.nng import limit_threads
from common.log import configure
from common.service_manager import READY, notify
from common.settings import GatewaySettings, settings_or_exit, settings_reader
from common.tracing import open_spans
from gateway.deploy.command import read_command, with_a_worker
from gateway.deploy.config import NOTHING, TABLES, read_config
from gateway.deploy.package import Package, find_package
from gateway.deploy.run import deploy_here, deploy_to
from gateway.opening import Sockets, Trust, make_gateway, open_sockets, read_trust
from gateway.reloading import reloading
from gateway.serve import serve

EXIT_OK, EXIT_FAILED = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run a gateway, deploy a model, or make certificates for a fleet; an exit code."""
    argv = sys.argv[1:] if argv is None else argv
    commands = {"deploy": deploy, "certs": certs}
    if argv and argv[0] in commands:
        return commands[argv[0]](argv[1:])
    return run(argv)


def deploy(argv: Sequence[str]) -> int:
    """Have a model's file serve: in a gateway of its own, until told to stop, or in one that runs."""
    command = read_command(argv)
    try:
        config = NOTHING if command.config is None else read_config(command.config)
        package = find_package(command.model, command.name, config)
        if command.to is not None:
            if config.names:
                raise LinkError(f"with --to the gateway runs already: {command.config} has {config.names[0]}")
            print(deploy_to(command.to, package, token=os.environ.get("PIPELINE_TOKEN")), flush=True)
            return EXIT_OK
    except PipelineError as error:
        print(f"gw.py: {error}", file=sys.stderr)
        return EXIT_FAILED
    file = [] if command.config is None else [f"--config={command.config}"]
    return run(with_a_worker([*file, *command.flags], os.environ, config.names), package)


def certs(argv: Sequence[str]) -> int:
    """Make certificates for a fleet, which needs a library that not every gateway has."""
    try:
        from gateway.certificates import main
    except ModuleNotFoundError as error:
        print(f"gw.py: certs needs {error.name}: pip install 'pipeline-inference[tls]'", file=sys.stderr)
        return EXIT_FAILED
    return main(argv)


def run(argv: Sequence[str], package: Package | None = None) -> int:
    """Run a gateway, and have it serve a package, if there is one; an exit code."""
    read = settings_reader(
        GatewaySettings,
        argv,
        os.environ,
        prog="gw.py",
        description="Balance predictions over workers, and keep their weights.",
        tables=() if package is None else TABLES,
    )
    settings = settings_or_exit(read, "gw.py")
    configure(settings.log_level, settings.log_format)
    if settings.config is not None or settings.certfile is not None:
        signal.signal(signal.SIGHUP, lambda *_: None)  # one that comes before anybody hears it ends nothing
    # Before and after `serve` hears signals, Ctrl-C ends the process like any other, without a stack trace.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Answers wait for whichever thread holds the interpreter: NNG's callbacks need it for microseconds.
    sys.setswitchinterval(0.0005)
    limit_threads()
    try:
        trust = read_trust(settings)
        sockets = open_sockets(settings)
        with open_spans(settings.otel, "pipeline-gateway", settings.otel_sample) as spans:
            gateway = make_gateway(settings, sockets, trust, spans)
            greet = partial(greet_with, settings, sockets, trust, package)
            trio.run(serve, gateway, greet, reloading(settings, read, trust.certificate))
    except PipelineError as error:
        print(f"gw.py: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


async def greet_with(
    settings: GatewaySettings, sockets: Sockets, trust: Trust, package: Package | None
) -> None:
    """The gateway serves: have it serve the package, if there is one, and say so."""
    line = greeting(sockets.rest, sockets.grpc, settings)
    if package is not None:
        line = await deploy_here(
            local_url(sockets.admin or sockets.rest, settings), package, max_upload=settings.max_upload,
            token=None if trust.gate is None else trust.gate.own_token,
            tls=None if trust.certificate is None else own_context(trust.certificate.identity),
        )  # fmt: skip
    print(line, flush=True)
    notify(os.environ.get("NOTIFY_SOCKET", ""), READY)
    # What is there now stays: a collection of all of it takes longer than a hundred requests.
    gc.freeze()


def local_url(rest: list[socket.socket], settings: GatewaySettings) -> str:
    """Where this host reaches its own REST."""
    host, port = rest[0].getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nosec B104  # it is what nobody should dial
    return f"{scheme(settings)}://[{host}]:{port}" if ":" in host else f"{scheme(settings)}://{host}:{port}"


def scheme(settings: GatewaySettings) -> str:
    """What its doors speak."""
    return "http" if settings.certfile is None else "https"


def greeting(rest: list[socket.socket], grpc: list[socket.socket], settings: GatewaySettings) -> str:
    """The one line on start: where it listens and what to run next."""
    url, *others = ("{}:{}".format(*each[0].getsockname()[:2]) for each in (rest, grpc) if each)
    url = f"{scheme(settings)}://{url}"
    where = "".join([url, *(f" and, for gRPC, on {other}" for other in others)])
    if settings.scale.first:
        return f"Pipeline serves on {where} with {settings.scale.first} workers. Next: curl {url}/status"
    fleet = f"--addr_service {dialled(settings.addr_service)} --addr_worker {dialled(settings.addr_worker)}"
    if settings.fleet_token_file is not None:
        fleet += " --fleet_token_file …"
    if settings.certificates:
        fleet += " --fleet_ca … --fleet_cert … --fleet_key …"
    return f"Pipeline serves on {where}. Next, on any host: python worker.py {fleet}"


def dialled(address: str) -> str:
    """How others write an address that stands for every address of this host."""
    parsed = parse_address(address)
    return str(parsed._replace(host=socket.gethostname()) if parsed.host in ("0.0.0.0", "::") else parsed)  # nosec B104  # the same


if __name__ == "__main__":
    sys.exit(main())
