"""The settings of each process.

A field of a dataclass here is all there is to say of a setting: its flag, its variable, its help and its
check (`flags` makes them work). Only `main(argv)` reads settings; everything else is given the values it
needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple, TypeVar

from common.addresses import is_loopback_host, parse_address, parse_host_port
from common.flags import (
    AMOUNT,
    AMOUNTS,
    BYTES,
    COUNT,
    COUNT_OR_ZERO,
    DEVICE,
    FLAG,
    HOST,
    HOST_PORT,
    IMAGE,
    LAUNCHER,
    LINKS,
    ORIGINS,
    PATH,
    PATTERNS,
    SECONDS,
    SECONDS_OR_ZERO,
    SECRET,
    SERVICE,
    WORKER,
    SettingsError,
    find_mistakes,
    option,
)
from common.limit_settings import LimitSettings
from common.observing_settings import ObservingSettings, TellingSettings
from common.reading import Family, parse_argv, read_values
from common.scaling_settings import ScalingSettings


@dataclass(frozen=True, kw_only=True)
class FleetSettings(TellingSettings):
    """What the gateway and the worker are both told."""

    addr_service: str = option(
        "ws://127.0.0.1:54000", SERVICE, "addresses", "control plane: the gateway listens, workers dial"
    )
    addr_worker: str = option(
        "ws://127.0.0.1:54001", LINKS, "addresses", "data plane; both take ws, wss, tcp, tls+tcp, ipc"
    )
    fleet_ca: str | None = option(None, PATH, "addresses", "authority that the other end's certificate is of")
    fleet_cert: str | None = option(None, PATH, "addresses", "own certificate, for wss and tls+tcp")
    fleet_key: str | None = option(None, PATH, "addresses", "key of the own certificate")
    fleet_token_file: str | None = option(
        None, PATH, "addresses", "a secret that both ends have, and prove to each other to have"
    )
    # Not shown: a command line is no place for a secret, a variable is.
    fleet_token: str | None = option(None, SECRET, "addresses", "", excludes="fleet_token_file")
    threads: int | None = option(None, COUNT, "workers", "torch threads (default: cores / local workers)")
    cache_size: int = option(10_000, COUNT_OR_ZERO, "workers", "rows in the prediction cache, 0 for none")
    memory_mb: int | None = option(
        None, COUNT, "workers", "MiB for loaded models, the unused make room (default: no limit)"
    )
    device: str = option("auto", DEVICE, "workers", "cpu, cuda, or auto: cuda where there is one")
    allow_pickle: bool = option(False, FLAG, "models", "load pickle and joblib files, which run code")
    allow_code: tuple[str, ...] = option(
        (), PATTERNS, "models", "modules that models may name, as module:name: my_nets or shop.*"
    )
    trusted: tuple[str, ...] = option((), PATTERNS, "models", "types that skops may load beside its own")
    require_signed: bool = option(False, FLAG, "models", "load only files that one of --trusted_keys signed")
    trusted_keys: str | None = option(
        None, PATH, "models", "public keys, as pipeline keys create writes them"
    )
    trust_files: bool = option(
        False, FLAG, "models", "load files without trying them first in a process of their own"
    )

    def __post_init__(self) -> None:
        mistakes = list(find_mistakes(self)) or list(self._contradictions())
        if mistakes:
            raise SettingsError(mistakes)

    def _contradictions(self) -> Iterator[str]:
        """A sentence for everything that makes no sense together."""
        if self.require_signed is not (self.trusted_keys is not None):
            yield "--require_signed and --trusted_keys need each other: whose signatures are to count"
        files = {name: getattr(self, name) for name in ("fleet_ca", "fleet_cert", "fleet_key")}
        addresses = {name: parse_address(getattr(self, name)) for name in ("addr_service", "addr_worker")}
        lacking = [f"--{name}" for name, file in files.items() if file is None]
        for name, address in addresses.items():
            if address.is_secure and lacking:
                yield (
                    f"--{name} {address} takes certificates: give {', '.join(lacking)} too"
                    " (python gw.py certs init makes them)"
                )
        # Workers on the gateway's own machine may see its variables, and dial Unix sockets.
        if len(lacking) < len(files) and all(each.scheme in ("ws", "tcp") for each in addresses.values()):
            yield "certificates are for addresses that begin with wss:// or tls+tcp://"

    @property
    def certificates(self) -> tuple[Path, Path, Path] | None:
        """The authority's, the own one and its key; None without."""
        if self.fleet_ca is None or self.fleet_cert is None or self.fleet_key is None:
            return None
        return Path(self.fleet_ca), Path(self.fleet_cert), Path(self.fleet_key)


# What an engine sets aside for a worker.
SET_ASIDE = ("worker_cpus", "worker_gpus", "worker_memory")


class Scale(NamedTuple):
    """How many workers a gateway starts with, and between which bounds that may change."""

    first: int
    least: int
    most: int


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(LimitSettings, ObservingSettings, ScalingSettings, FleetSettings):
    """What `gw.py` is told. An address that others can reach takes `insecure`."""

    addr_rest: str = option("127.0.0.1:54321", HOST_PORT, "addresses", "where clients come; port 0: any")
    processes: int = option(
        1, COUNT, "addresses", "processes for HTTP; more than 1 are put in front of the gateway, on its port"
    )
    addr_grpc: str | None = option(
        None, HOST_PORT, "addresses", "where gRPC clients come; alone: 127.0.0.1:8001", bare="127.0.0.1:8001"
    )
    certfile: str | None = option(None, PATH, "addresses", "certificate chain: REST and gRPC speak TLS alone")
    keyfile: str | None = option(None, PATH, "addresses", "its key; both are read again on SIGHUP")
    insecure: bool = option(
        False, FLAG, "addresses", "listen where others can reach it, use it and replace the weights"
    )
    addr_admin: str | None = option(
        None, HOST_PORT, "addresses", "where alone uploads and changes are taken, beside all of addr_rest"
    )
    cors_origins: tuple[str, ...] = option(
        (), ORIGINS, "security", "pages of other origins that may ask: https://app.example.com,…"
    )
    tokens: str | None = option(
        None, PATH, "security", "file of tokens, by which clients prove who they are: pipeline token create"
    )
    workers: int | None = option(
        None, COUNT_OR_ZERO, "manager", "workers to start and keep: as many at least, at most and at first"
    )
    min_workers: int | None = option(
        None, COUNT_OR_ZERO, "manager", "fewest workers that it starts (default: 0)"
    )
    max_workers: int | None = option(None, COUNT_OR_ZERO, "manager", "most (default: those it starts with)")
    num_init_workers: int | None = option(
        None, COUNT_OR_ZERO, "manager", "workers that it starts with (default: the fewest)"
    )
    scale_to_zero: bool = option(
        False, FLAG, "manager", "none where nobody asks; the first request waits for one to start"
    )
    worker_timeout: float = option(
        120.0, SECONDS, "manager", "a worker that has not come by then is given up, in seconds"
    )
    gateway_timeout: float = option(
        300.0, SECONDS_OR_ZERO, "manager", "its workers leave after so long without it, in seconds; 0: never"
    )
    spot_workers: bool = option(False, FLAG, "manager", "one-use workers: one batch each, then another one")
    keep: bool = option(False, FLAG, "manager", "local workers outlive the gateway; the next one has them")
    stop_workers: bool = option(
        False, FLAG, "manager", "workers of ray and kubernetes end with the gateway, as local ones do"
    )
    advertise: str | None = option(
        None, HOST, "manager", "this machine's name or address, as workers on other machines dial it"
    )
    launcher: str = option("local", LAUNCHER, "manager", "what starts workers: local, ray or kubernetes")
    worker_cpus: float | None = option(
        None,
        AMOUNT,
        "manager",
        "cores that a worker takes of its machine, on ray and kubernetes (default: 1)",
    )
    worker_gpus: float | None = option(None, AMOUNT, "manager", "GPUs, as there (default: 0)")
    worker_memory: int | None = option(None, BYTES, "manager", "memory, as there (default: unlimited)")
    worker_resources: Mapping[str, float] | None = option(
        None, AMOUNTS, "manager", "what else of its machine, by ray's own names for it: big_memory=1"
    )
    ray_address: str | None = option(
        None, HOST_PORT, "manager", "the head of the cluster that this machine is a node of"
    )
    ray_token_file: str | None = option(
        None, PATH, "manager", "its token (default: where Ray looks: ~/.ray/auth_token)"
    )
    kubernetes_config: str | None = option(
        None, PATH, "manager", "a kubeconfig (default: the Pod's service account, or ~/.kube/config)"
    )
    kubernetes_namespace: str | None = option(
        None, WORKER, "manager", "where Pods are ordered (default: the Pod's own, or the kubeconfig's)"
    )
    kubernetes_image: str | None = option(None, IMAGE, "manager", "what Pods run (default: the template's)")
    kubernetes_template: str | None = option(
        None, PATH, "manager", "a Pod in YAML that says what else those of workers have"
    )
    service: str | None = option(
        None, WORKER, "manager", "what its workers are called (default: local; elsewhere: pipeline)"
    )
    models: str | None = option(
        None, PATH, "models", "folder of models to serve: NAME/VERSION/model.*", variable="models_dir"
    )
    watch: bool = option(False, FLAG, "models", "follow changes in the folder of models")
    state: str = option("./state", PATH, "state", "folder that remembers weights and versions")
    ephemeral: bool = option(False, FLAG, "state", "remember nothing after the end", excludes="state")
    queue_max: int = option(10_000, COUNT, "limits", "requests that may wait; more get 503")
    timeout: float = option(30.0, SECONDS, "limits", "deadline of a request that names none, in seconds")
    config: str | None = option(None, PATH, "process", "a file of settings: docs/configuration.md")
    jobs_max: int = option(1000, COUNT, "jobs", "jobs that may be unfinished; more get 503")
    batch_root: str | None = option(None, PATH, "jobs", "folder whose files batch jobs may read and write")
    webhook_hosts: tuple[str, ...] = option(
        (), PATTERNS, "jobs", "hosts that callback_url may go to: hooks.example.com or *.example.com"
    )

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if (self.certfile is None) is not (self.keyfile is None):
            yield "--certfile and --keyfile need each other: give both, or neither"
        if self.watch and self.models is None:
            yield "--watch follows a folder of models: give --models too"
        yield from self._contradictions_of_manager()
        yield from self._contradictions_of_engine()
        reachable = {
            "addr_rest": not is_loopback_host(parse_host_port(self.addr_rest)[0]),
            "addr_grpc": self.addr_grpc is not None
            and not is_loopback_host(parse_host_port(self.addr_grpc)[0]),
            "addr_admin": self.addr_admin is not None
            and not is_loopback_host(parse_host_port(self.addr_admin)[0]),
        }
        for name, is_reachable in reachable.items():
            if is_reachable and not self.insecure and not self.tokens:
                yield (
                    f"--{name} {getattr(self, name)} can be reached from other machines, and anybody who"
                    " reaches it can use it and replace the weights: give --tokens, or --insecure if that is"
                    " what you want"
                )
        yield from self._contradictions_of_fleet()

    def _contradictions_of_fleet(self) -> Iterator[str]:
        """Who reaches the fleet's sockets has to prove something, by a token or by a certificate."""
        has_token = self.fleet_token_file is not None or self.fleet_token is not None
        for name in ("addr_service", "addr_worker"):
            address = getattr(self, name)
            if not (parse_address(address).is_private or has_token or self.insecure):
                yield (
                    f"--{name} {address} can be reached from other machines, and anybody who reaches it can"
                    " pose as a worker: give --fleet_token_file, or wss:// with certificates, or --insecure"
                    " if that is what you want"
                )

    def _contradictions_of_manager(self) -> Iterator[str]:
        scale, others = self.scale, (self.min_workers, self.max_workers, self.num_init_workers)
        if self.workers is not None and others != (None, None, None):
            yield (
                "--workers says how many there are at least, at most and at first: leave it out, or"
                " --min_workers, --max_workers and --num_init_workers"
            )
        if not scale.least <= scale.first <= scale.most:
            yield (
                f"--min_workers {scale.least}, --num_init_workers {scale.first} and --max_workers"
                f" {scale.most} have to be in this order, none less than the one before"
            )
        if self.keep and self.ephemeral:
            yield "--keep notes in the state folder which workers there are: leave out --ephemeral"
        if self.keep and self.launcher != "local":
            yield f"--keep is for local workers: those of {self.launcher} stay without it"
        if self.stop_workers and self.launcher == "local":
            yield "--stop_workers is for ray and kubernetes: local workers end without it"

    def _contradictions_of_engine(self) -> Iterator[str]:
        """An engine's flags with another one would say nothing."""
        given = [each.name for each in fields(self) if getattr(self, each.name) is not None]
        for name in given:
            engine = "ray" if name == "worker_resources" else name.partition("_")[0]
            if engine in ("ray", "kubernetes") and self.launcher != engine:
                yield f"--{name} is for --launcher {engine}, and this is {self.launcher}"
            if name in SET_ASIDE and self.launcher == "local":
                yield f"--{name} is for ray and kubernetes: local workers take what there is"
        if self.launcher == "ray" and self.ray_address is None:
            yield "--launcher ray needs --ray_address, the head of its cluster"

    @property
    def scale(self) -> Scale:
        """How many workers the gateway keeps."""
        if self.workers is not None:
            return Scale(self.workers, self.workers, self.workers)
        least = self.min_workers or 0
        first = self.num_init_workers if self.num_init_workers is not None else least
        return Scale(first, least, max(first, least) if self.max_workers is None else self.max_workers)

    @property
    def state_directory(self) -> Path | None:
        """Where the state is kept; None for nowhere."""
        return None if self.ephemeral else Path(self.state)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(FleetSettings):
    """What `worker.py` is told. It only dials, so no address is too open for it."""

    models: tuple[str, ...] = option(
        (),
        PATTERNS,
        "models",
        "patterns of the models to hold: iris,text-* (default: all)",
        variable="worker_models",
    )
    name: str | None = option(None, WORKER, "process", "what people call it (default: host name and pid)")
    check: str | None = option(None, PATH, "process", "say whether this weights file would serve, and end")
    incarnation: int = option(
        0, COUNT_OR_ZERO, "process", "of two workers of one name the newer counts; 0: all"
    )
    gateway_timeout: float = option(
        0.0, SECONDS_OR_ZERO, "process", "leave after so long without a gateway, in seconds; 0: never"
    )
    spot: bool = option(False, FLAG, "process", "serve one batch, and leave")
    config: str | None = option(
        None, PATH, "process", "a file of settings: docs/configuration.md", variable="worker_config"
    )
    exit_with_parent: bool = option(False, FLAG, "process", "")
    fork_server: int | None = option(None, COUNT, "process", "")


Settings = TypeVar("Settings", bound=FleetSettings)

FAMILY = Family(
    (GatewaySettings, WorkerSettings),
    others=("url", "token"),  # of the command line and the curl scripts
    unclear={
        "PIPELINE_MODELS": "PIPELINE_MODELS could mean two things: give PIPELINE_MODELS_DIR for the gateway's"
        " folder of models, PIPELINE_WORKER_MODELS for the names of the models that a worker holds"
    },
)


def settings_reader(
    cls: type[Settings],
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    prog: str,
    description: str,
    tables: Collection[str] = (),
) -> Callable[[], Settings]:
    """What reads the settings that flags (without the program's name), variables and a file give a process,
    as often as it is called; `SettingsError`. `tables` may stand in the file beside those of settings. Flags
    that are unknown or lack their value end the process now, as argparse does."""
    flags = parse_argv(cls, argv, prog=prog, description=description)
    return lambda: read_values(cls, flags, environ, FAMILY, tables).settings


def read_settings(
    cls: type[Settings], argv: Sequence[str], environ: Mapping[str, str], *, prog: str, description: str
) -> Settings:
    """The settings, read once; as `settings_or_exit` says."""
    return settings_or_exit(settings_reader(cls, argv, environ, prog=prog, description=description), prog)


def settings_or_exit(read: Callable[[], Settings], prog: str) -> Settings:
    """What is read; sentences on stderr and status 2 if that makes no sense."""
    try:
        return read()
    except SettingsError as error:
        print("\n".join(f"{prog}: error: {each}" for each in error.mistakes), file=sys.stderr)
        sys.exit(2)
