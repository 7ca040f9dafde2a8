"""Where workers find this gateway: its own addresses and, for those on this machine, Unix sockets; and what
opens the link of each."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from common import wire
from common.addresses import (
    Address,
    advertised,
    link_address,
    link_endpoint,
    parse_address,
    parse_link_base,
    service_url,
)
from common.credentials import Credentials
from common.errors import LinkError, PipelineError
from common.link.gateway import Link, listen_link

TCP_PORTS = 1000  # each worker's link on plain tcp takes a port of its own, from --addr_worker's up


class Links:
    """Opens links on the transport that a worker dials: the gateway's own, or Unix sockets in `directory`."""

    def __init__(
        self, addr_service: str, addr_worker: str, directory: str, credentials: Credentials | None
    ) -> None:
        self._service, self._worker = parse_address(addr_service), parse_address(addr_worker)
        self._local_service = f"ipc://{directory}/service"
        # The gateway's own address, if that is a Unix socket.
        local = self._worker if self._worker.scheme == "ipc" else Address("ipc", path=f"{directory}/link")
        self._bases = {self._worker.scheme: self._worker, "ipc": local}
        self._credentials = credentials
        self._ports = itertools.count()  # from where the last one was found: each attempt costs a socket

    @property
    def services(self) -> list[str]:
        """Where the control plane listens."""
        return [service_url(self._service), self._local_service]

    def flags_here(self) -> tuple[str, ...]:
        """The addresses as a worker on this machine is told them."""
        return "--addr_service", self._local_service, "--addr_worker", str(self._bases["ipc"])

    def flags_elsewhere(self, host: str | None) -> tuple[str, ...]:
        """The same for a worker on another host, which knows this one as `host`."""
        service, worker = (str(advertised(each, host)) for each in (self._service, self._worker))
        return "--addr_service", service, "--addr_worker", worker

    def open_link(
        self, hello: wire.HelloAnswer, joined: Callable[[], None], left: Callable[[], None]
    ) -> tuple[Link, str]:
        """Listen for a worker: its link, and the endpoint to tell it. `LinkError` where that cannot be."""
        base = self._bases.get(hello.scheme)
        if base is None:
            raise LinkError(f"it dials {hello.scheme}, and this gateway listens on {', '.join(self._bases)}")
        if base.scheme not in ("tcp", "tls+tcp"):
            endpoint = link_endpoint(base, hello.worker)
            return listen_link(str(link_address(base, endpoint)), joined, left, self._credentials), endpoint
        for _ in range(TCP_PORTS):
            port = base.port + next(self._ports) % TCP_PORTS
            with contextlib.suppress(LinkError):
                url = str(base._replace(port=port))
                return listen_link(url, joined, left, self._credentials), str(port)
        raise LinkError(f"no port from {base.port} to {base.port + TCP_PORTS - 1} can be listened on")

    @contextlib.asynccontextmanager
    async def held_port(self) -> AsyncIterator[None]:
        """The port of all links, taken at once: a port in use is said at start, not when a worker comes."""
        if self._worker.scheme not in ("ws", "wss"):
            yield
            return
        url = str(self._worker._replace(path=f"{self._worker.path}/link"))
        door = listen_link(url, lambda: None, lambda: None, self._credentials)
        try:
            yield
        finally:
            await door.aclose()


@contextlib.contextmanager
def socket_directory(kept_in: Path | None) -> Iterator[str]:
    """Where a gateway's Unix sockets are; only its own user may look inside. Workers that outlive it look for
    the next one in the same place: `kept_in` is the folder of its state then, else None."""
    if kept_in is None:
        with tempfile.TemporaryDirectory(prefix="pipeline-") as temporary:
            yield temporary
        return
    directory = kept_in.resolve() / "sockets"
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        parse_link_base(f"ipc://{directory}/service")
    except ValueError as error:
        raise PipelineError(f"--keep needs a shorter --state, where its sockets are: {error}") from None
    yield str(directory)
