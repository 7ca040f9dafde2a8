"""The worker's main: flags and environment, then serve until told to stop. `python worker.py -h` lists them.

Exit codes: 0 stopped in good order (or `--check` found the file good), 1 `--check` found it bad or the
worker could not start, 2 a flag or variable that makes no sense.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # first of all: until somebody hears it, Ctrl-C is quiet, while we import too
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from common.log import configure
from common.settings import WorkerSettings, settings_or_exit, settings_reader

if TYPE_CHECKING:
    import torch

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker, or check one file; an exit code."""
    read = settings_reader(
        WorkerSettings,
        sys.argv[1:] if argv is None else argv,
        os.environ,
        prog="worker.py",
        description="Run models for a gateway, on this host or any that can reach it.",
    )
    settings = settings_or_exit(read, "worker.py")
    if settings.fork_server is not None:
        from engine import fork_server

        return fork_server.serve(settings.fork_server, main)
    configure(settings.log_level, settings.log_format)
    stops: SimpleQueue[None] = SimpleQueue()
    if settings.check is None:
        # First of all: importing torch takes a second, and Ctrl-C prints no stack trace.
        _stop_on_signals(stops)
        if settings.config is not None:
            _reload_on_hangup(settings, read)
        if settings.exit_with_parent:
            threading.Thread(target=_stop_at_eof, args=(stops,), daemon=True).start()
    import torch

    from engine.runtimes.torch_state import choose_device

    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    try:
        device = choose_device(settings.device)
    except ValueError as error:
        print(f"worker.py: {error}", file=sys.stderr)
        return EXIT_USAGE
    if settings.check is not None:
        return _check(Path(settings.check), device)
    return _serve(settings, device, stops)


def _check(path: Path, device: torch.device) -> int:
    from common.errors import LoadError
    from engine.checking import check_file

    try:
        print(check_file(path, device))
    except LoadError as error:
        print(f"{path} would not serve: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _serve(settings: WorkerSettings, device: torch.device, stops: SimpleQueue[None]) -> int:
    from common.credentials import read_credentials, read_fleet_token
    from common.errors import LinkError, PipelineError
    from common.link.nng import limit_threads
    from common.signatures import read_trusted_keys
    from common.tracing import open_spans
    from engine.planes.identity import identify
    from engine.planes.service import Addresses, WorkerService
    from engine.runtimes.options import LoadOptions
    from engine.trials import open_trials

    # A batch waits for whichever thread holds the interpreter: 5 ms by default, a frame's whole life is less.
    sys.setswitchinterval(0.0005)
    limit_threads()
    identity = identify(settings.name, settings.incarnation)
    allowed = LoadOptions(
        allow_pickle=settings.allow_pickle, allow_code=settings.allow_code, trusted=settings.trusted
    )
    try:
        token = read_fleet_token(settings.fleet_token_file, settings.fleet_token)
        credentials = settings.certificates and read_credentials(*settings.certificates, listens=False)
        addresses = Addresses(settings.addr_service, settings.addr_worker, credentials, token)
        trusted = None if settings.trusted_keys is None else read_trusted_keys(Path(settings.trusted_keys))
        # First of all what is forked: then come threads.
        with nullcontext() if settings.trust_files else open_trials(allowed) as trials:
            service = WorkerService(
                identity,
                addresses,
                device=device,
                cache_size=settings.cache_size,
                allowed=allowed,
                models=settings.models,
                memory_limit=None if settings.memory_mb is None else settings.memory_mb << 20,
                gateway_timeout=settings.gateway_timeout,
                spot=settings.spot,
                stops=stops,
                trusted=trusted,
                trials=trials,
            )
            name = {"service.instance.id": identity.name}
            with open_spans(settings.otel, "pipeline-worker", **name) as spans:
                service.run(spans)
    except LinkError as error:
        return _failed(f"cannot dial {settings.addr_service}: {error}")
    except PipelineError as error:
        return _failed(str(error))
    return EXIT_OK


def _failed(sentence: str) -> int:
    print(f"worker.py: {sentence}", file=sys.stderr)
    return EXIT_FAILED


def _stop_on_signals(stops: SimpleQueue[None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stops.put(None))


def _reload_on_hangup(settings: WorkerSettings, read: Callable[[], WorkerSettings]) -> None:
    """On SIGHUP the log's level is as the file says now; all else waits for a restart, and is told of."""
    from common.log import set_level
    from common.reloading import Reloading

    reloading = Reloading(
        settings, read, lambda name, _: name == "log_level", lambda _, after: set_level(after.log_level)
    )
    # In a thread: the signal may come while this one is writing a line of the log.
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reloading.reload, daemon=True).start())


def _stop_at_eof(stops: SimpleQueue[None]) -> None:
    """Whoever started this process holds the other end of its stdin, until it dies."""
    while os.read(0, 4096):
        pass
    stops.put(None)


if __name__ == "__main__":
    sys.exit(main())
