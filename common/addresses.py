"""Addresses of the fleet's sockets: how they are written, and how a link's address is made of them. Pure."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import NamedTuple

SCHEMES = ("ws", "wss", "tcp", "tls+tcp", "ipc")
MAX_IPC_PATH = 107  # bytes of a Unix socket's path, without the zero at its end: unix(7)
_ID = re.compile(r"[0-9a-f]{32}\Z")
_LINK_SUFFIX = 1 + 32  # what `link_address` adds to an ipc path
_HOST = re.compile(r"[A-Za-z0-9._-]+\Z")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")


class Address(NamedTuple):
    """A parsed fleet address; `host` and `port` are empty for ipc, `path` is empty for tcp."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "ipc":
            return f"ipc://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def is_secure(self) -> bool:
        """Whether both ends prove by certificates who they are."""
        return self.scheme in ("wss", "tls+tcp")

    @property
    def is_private(self) -> bool:
        """Whether nobody uses it who should not: only this machine can reach it, or strangers are refused."""
        return self.is_loopback or self.is_secure

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.scheme == "ipc" or is_loopback_host(self.host)


def is_loopback_host(host: str) -> bool:
    """Whether a host name or literal stands for this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def network_of(address: str) -> str:
    """What clients are counted by: an IPv4 address, or the /64 of an IPv6 one, which one host has all of."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((parsed, 64), strict=False))


def parse_host_port(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`; `ValueError` with a sentence otherwise. Port 0 asks for any free one."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not host.startswith("["):
        raise ValueError(f"{text!r}: write an IPv6 host in brackets, as in [::1]:54321")
    if not host or not _PORT.match(port) or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port, as in 127.0.0.1:54321")
    if not (_is_ipv6(host[1:-1]) if bracketed else _HOST.match(host)):
        raise ValueError(f"{text!r}: {host!r} is no host: write a name or address (0.0.0.0 or [::] for any)")
    return host[1:-1] if bracketed else host, int(port)


def _is_ipv6(host: str) -> bool:
    if not _IPV6.match(host):
        return False  # IPv6Address takes anything behind a %
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def parse_address(text: str, *, reserve: int = 0) -> Address:
    """A fleet address; `ValueError` with a sentence that says what is allowed.

    An ipc path has to leave room for `reserve` more bytes.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(
            f"{text!r} is not an address of the fleet: write scheme://…, with one of {', '.join(SCHEMES)}"
        )
    if scheme == "ipc":
        if not rest.startswith("/"):
            raise ValueError(f"{text!r}: ipc takes an absolute path, as in ipc:///run/pipeline/service")
        if len(os.fsencode(rest)) > MAX_IPC_PATH - reserve:
            raise ValueError(f"{text!r}: ipc takes a path of at most {MAX_IPC_PATH - reserve} bytes")
        return Address("ipc", path=rest)
    netloc, slash, path = rest.partition("/")
    if slash and path and not scheme.startswith("ws"):
        raise ValueError(f"{text!r}: {scheme} takes no path, only host:port")
    host, port = parse_host_port(netloc)
    return Address(scheme, host, port, f"/{path}" if path else "")


def advertised(address: Address, host: str | None) -> Address:
    """The address as other machines dial it: at this host, where one is given."""
    return address if host is None or address.scheme == "ipc" else address._replace(host=host)


def parse_link_base(text: str) -> Address:
    """A fleet address that `link_address` can make longer; `ValueError` as from `parse_address`."""
    return parse_address(text, reserve=_LINK_SUFFIX)


def service_url(address: Address) -> str:
    """Where the survey socket listens and is dialled: on ws, a path of its own on the port."""
    if address.scheme in ("ws", "wss") and not address.path:
        address = address._replace(path="/service")
    return str(address)


def link_endpoint(base: Address, worker: str, port: int = 0) -> str:
    """What a gateway tells worker `worker` of its link: the part of the address the worker cannot know."""
    if not _ID.match(worker):
        raise ValueError(f"a worker id is 32 lower-case hex digits, not {worker!r}")
    return str(port) if base.scheme in ("tcp", "tls+tcp") else f"/link/{worker}"


def link_address(base: Address, endpoint: str) -> Address:
    """The address of a link: the base as this side writes it, with the endpoint the gateway gave."""
    if base.scheme in ("tcp", "tls+tcp"):
        return base._replace(port=int(endpoint))
    if base.scheme == "ipc":
        return base._replace(path=base.path + endpoint.replace("/link/", "."))
    return base._replace(path=base.path + endpoint)
