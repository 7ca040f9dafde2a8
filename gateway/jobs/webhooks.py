"""Telling a job's `callback_url` that it is over: only hosts on the operator's list, each address checked.

A host that the list names may be anywhere; one that only a pattern fits may not be on a private network, or
whoever has a name in that domain could have the gateway call what only the gateway can reach. The address
that was checked is the one that is called, so a name cannot change in between; redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import trio

from common.errors import InvalidRequest, PipelineError
from common.log import event
from gateway.jobs.job import Job

log = logging.getLogger("pipeline.jobs")

EXTRA = "pip install 'pipeline-inference[jobs]'"
TIMEOUT = 10.0
PAUSES = (1.0, 5.0, 25.0, 125.0, 0.0)  # behind each attempt; the last is given up
_PORTS = {"http": 80, "https": 443}


class Refused(PipelineError):
    """Raised when a callback was not taken: by us for where it goes, or by who was called."""

    code = "callback"


class Target(NamedTuple):
    """Where a callback goes, and whether an operator named this very host."""

    parts: SplitResult
    host: str
    port: int
    is_named: bool


class Webhooks:
    """`hosts` are names, or patterns like *.example.com; `body` makes what is sent."""

    def __init__(self, hosts: Sequence[str], body: Callable[[Job], bytes]) -> None:
        self._body = body
        self.allow(hosts)

    def allow(self, hosts: Sequence[str]) -> None:
        """Have callbacks go to these hosts from now on, and no others."""
        self._hosts = [host.lower() for host in hosts]

    def check(self, url: str) -> Target:
        """Where a URL goes; `InvalidRequest` for one that may not be called."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError as error:
            raise InvalidRequest(f"callback_url is none: {error}") from None
        if parts.scheme not in _PORTS or not host or parts.username is not None:
            raise InvalidRequest("callback_url should be http:// or https:// and a host, without a user")
        if not any(fnmatchcase(host, each) for each in self._hosts):
            allowed = ", ".join(self._hosts) or "none: see --webhook_hosts"
            raise InvalidRequest(f"callback_url goes to {host}, and allowed are {allowed}")
        try:
            import httpx  # noqa: F401 - an extra
        except ImportError:
            raise InvalidRequest(f"callback_url takes the extra jobs on the gateway: {EXTRA}") from None
        return Target(parts, host, port or _PORTS[parts.scheme], host in self._hosts)

    async def call(self, job: Job) -> None:
        """Tell a job's callback_url, several times if need be; gives up with a line in the log."""
        assert job.callback_url is not None
        for pause in PAUSES:
            try:
                with trio.fail_after(TIMEOUT):
                    await self._post(self.check(job.callback_url), self._body(job))
                return
            except (PipelineError, OSError, trio.TooSlowError) as error:
                event(log, logging.WARNING, "callback failed", job=job.id, because=error, again_in=pause)
            await trio.sleep(pause)

    async def _post(self, target: Target, body: bytes) -> None:
        import httpx

        address = await _address(target)
        name = target.parts.netloc
        shown = f"[{address}]" if ":" in address else address
        url = target.parts._replace(netloc=f"{shown}:{target.port}", fragment="").geturl()
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:
                answer = await client.post(
                    url,
                    content=body,
                    headers={"Host": name, "Content-Type": "application/json"},
                    extensions={"sni_hostname": target.host},
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        if not answer.is_success:
            raise Refused(f"it answered {answer.status_code}")


async def _address(target: Target) -> str:
    """The address to call; `Refused` where it is one that is not for strangers."""
    found = await trio.socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    address = str(found[0][4][0])
    if not target.is_named and not ipaddress.ip_address(address.partition("%")[0]).is_global:
        raise Refused(f"{target.host} is at {address}, a private address: --webhook_hosts has to name it")
    return address
