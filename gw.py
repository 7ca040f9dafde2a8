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
import math
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import trio

from common.addresses import parse_address, parse_host_port
from common.credentials import Credentials, read_credentials, read_fleet_token
from common.errors import LinkError, PipelineError
from common.limit_settings import LimitSettings
from common.link.nng import limit_threads
from common.log import configure
from common.service_manager import READY, notify
from common.settings import GatewaySettings, settings_or_exit, settings_reader
from common.sockets import bind, bind_shares
from common.tracing import Spans, open_spans
from gateway.auth.gate import Gate
from gateway.deploy.command import read_command, with_a_worker
from gateway.deploy.config import NOTHING, TABLES, read_config
from gateway.deploy.package import Package, find_package
from gateway.deploy.run import deploy_here, deploy_to
from gateway.launchers.choose import Hiring
from gateway.launchers.launcher import WorkerSpec
from gateway.reloading import policy_of, reloading
from gateway.serve import Gateway, serve
from gateway.tls import Certificate

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
        if trust.certificate is not None and package is not None:
            raise LinkError("deploy asks its own gateway in plain HTTP: leave out --certfile, or use --to")
        sockets = open_sockets(settings)
        with open_spans(settings.otel, "pipeline-gateway", settings.otel_sample) as spans:
            gateway = make_gateway(settings, sockets, trust, spans)
            greet = partial(greet_with, settings, sockets, trust, package)
            trio.run(serve, gateway, greet, reloading(settings, read, trust.certificate))
    except PipelineError as error:
        print(f"gw.py: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


class Trust(NamedTuple):
    """Who is believed, and by what they are known."""

    credentials: Credentials | None  # the fleet's certificates
    token: str | None  # the fleet's
    certificate: Certificate | None  # what REST and gRPC show, where they speak TLS
    gate: Gate | None  # the clients' tokens


def read_trust(settings: GatewaySettings) -> Trust:
    """Every file of it, each refused with a `PipelineError` that names it."""
    certificate = None
    if settings.certfile is not None and settings.keyfile is not None:
        certificate = Certificate(Path(settings.certfile), Path(settings.keyfile))
    return Trust(
        settings.certificates and read_credentials(*settings.certificates, listens=True),
        read_fleet_token(settings.fleet_token_file, settings.fleet_token),
        certificate,
        None if settings.tokens is None else Gate(Path(settings.tokens)),
    )


class Sockets(NamedTuple):
    """What listens. `fronts` has those of each process for HTTP, where there are any; `rest` is the first."""

    rest: list[socket.socket]
    admin: list[socket.socket]
    grpc: list[socket.socket]
    fronts: Sequence[list[socket.socket]]


def open_sockets(settings: GatewaySettings) -> Sockets:
    """Listen wherever the settings say; `LinkError` where that cannot be."""
    shares = listen(settings.addr_rest, settings.processes)
    admin = [] if settings.addr_admin is None else listen(settings.addr_admin)[0]
    grpc = [] if settings.addr_grpc is None else listen(settings.addr_grpc)[0]
    return Sockets(shares[0], admin, grpc, shares[1:] and shares)


async def greet_with(
    settings: GatewaySettings, sockets: Sockets, trust: Trust, package: Package | None
) -> None:
    """The gateway serves: have it serve the package, if there is one, and say so."""
    line = greeting(sockets.rest, sockets.grpc, settings)
    if package is not None:
        line = await deploy_here(
            local_url(sockets.admin or sockets.rest), package, max_upload=settings.max_upload,
            token=None if trust.gate is None else trust.gate.own_token,
        )  # fmt: skip
    print(line, flush=True)
    notify(os.environ.get("NOTIFY_SOCKET", ""), READY)
    # What is there now stays: a collection of all of it takes longer than a hundred requests.
    gc.freeze()


def local_url(rest: list[socket.socket]) -> str:
    """Where this host reaches its own REST."""
    host, port = rest[0].getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nosec B104  # it is what nobody should dial
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(address: str, count: int = 1) -> list[list[socket.socket]]:
    """Sockets that listen on host:port, for each of so many processes; `LinkError` if there can be none."""
    try:
        host, port = parse_host_port(address)
        return [bind(host, port)] if count == 1 else bind_shares(host, port, count)
    except OSError as error:
        raise LinkError(f"cannot listen on {address}: {error.strerror}") from None


def make_gateway(
    settings: GatewaySettings, sockets: Sockets, trust: Trust, spans: Spans | None = None
) -> Gateway:
    """What the settings ask for."""
    return Gateway(
        rest=sockets.rest,
        fronts=sockets.fronts,
        grpc=sockets.grpc,
        admin=sockets.admin,
        addr_service=settings.addr_service,
        addr_worker=settings.addr_worker,
        credentials=trust.credentials,
        token=trust.token,
        certificate=trust.certificate,
        gate=trust.gate,
        state=settings.state_directory,
        hiring=make_hiring(settings, trust.token),
        queue_max=settings.queue_max,
        timeout=settings.timeout,
        max_body=settings.max_body,
        max_upload=settings.max_upload,
        max_rows=settings.max_rows,
        limits=LimitSettings(**{each.name: getattr(settings, each.name) for each in fields(LimitSettings)}),
        models=None if settings.models is None else Path(settings.models),
        watch=settings.watch,
        batch_root=None if settings.batch_root is None else Path(settings.batch_root),
        webhook_hosts=settings.webhook_hosts,
        jobs_max=settings.jobs_max,
        metrics_triton=settings.metrics_triton,
        access_log=settings.access_log,
        spans=spans,
        policy=policy_of(settings),
        cors_origins=settings.cors_origins,
    )  # fmt: skip


def make_hiring(settings: GatewaySettings, token: str | None) -> Hiring:
    """The workers that the settings ask for. Those on other machines find the token there."""
    is_local = settings.launcher == "local"
    cpus = 1.0 if settings.worker_cpus is None else settings.worker_cpus
    cores = (os.cpu_count() or 1) if is_local else max(1, math.ceil(cpus))
    trusted_keys = str(Path(settings.trusted_keys or "").absolute())
    threads = settings.threads or max(1, cores // max(1, settings.scale.most if is_local else 1))
    arguments = (
        "--threads", str(threads),
        "--cache_size", str(settings.cache_size),
        "--device", settings.device,
        "--gateway_timeout", str(settings.gateway_timeout),
        *(["--spot"] if settings.spot_workers else []),
        *([] if settings.memory_mb is None else ["--memory_mb", str(settings.memory_mb)]),
        *(["--allow_pickle"] if settings.allow_pickle else []),
        *(["--allow_code", ",".join(settings.allow_code)] if settings.allow_code else []),
        *(["--trusted", ",".join(settings.trusted)] if settings.trusted else []),
        *(["--trust_files"] if settings.trust_files else []),
        *([] if settings.trusted_keys is None else ["--require_signed", "--trusted_keys", trusted_keys]),
        "--log_level", settings.log_level,
        "--log_format", settings.log_format,
        *([] if settings.otel is None else ["--otel", settings.otel]),
    )  # fmt: skip
    return Hiring(
        launcher=settings.launcher,
        spec=WorkerSpec(
            service=settings.service or ("local" if is_local else "pipeline"),
            arguments=arguments,
            environment={"PIPELINE_FLEET_TOKEN": token} if token is not None and is_local else {},
            cpus=cpus,
            gpus=settings.worker_gpus or 0.0,
            memory=settings.worker_memory,
            resources=settings.worker_resources or {},
        ),
        scale=settings.scale,
        scale_to_zero=settings.scale_to_zero,
        worker_timeout=settings.worker_timeout,
        spot=settings.spot_workers,
        keep=settings.keep,
        stop_workers=settings.stop_workers,
        advertise=settings.advertise,
        options=own_settings(settings),
    )


def own_settings(settings: GatewaySettings) -> dict[str, Any]:
    """Those of its launcher alone, which begin with its name: `--ray_address` is Ray's `address`."""
    prefix = f"{settings.launcher}_"
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def greeting(rest: list[socket.socket], grpc: list[socket.socket], settings: GatewaySettings) -> str:
    """The one line on start: where it listens and what to run next."""
    url, *others = ("{}:{}".format(*each[0].getsockname()[:2]) for each in (rest, grpc) if each)
    url = f"{'http' if settings.certfile is None else 'https'}://{url}"
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
