"""Where the Kubernetes API is and how to prove to it who we are: as a Pod, or as a kubeconfig says.

Tokens and certificates in files are read again for every call: a cluster replaces them while we run.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from common.addresses import is_loopback_host
from common.errors import LaunchError

EXTRA = "pip install 'pipeline-inference[kubernetes]'"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = "https://kubernetes.default.svc"  # by this name every cluster's certificate knows itself
KUBECONFIG = Path(".kube/config")  # in the home

# What is understood of a kubeconfig; the rest (programs to run, passwords, proxies) is refused, not skipped.
_CLUSTER = {
    "server", "certificate-authority", "certificate-authority-data", "disable-compression", "extensions",
}  # fmt: skip
_USER = {
    "token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data",
    "extensions",
}  # fmt: skip

Source = bytes | Path | None


class Trust(NamedTuple):
    """Whom to believe, and what to show, in PEM; None for the machine's own authorities, and for nothing."""

    authority: bytes | None
    certificate: bytes | None
    key: bytes | None

    def context(self) -> ssl.SSLContext:
        """A TLS context of these; `ValueError` and `OSError` (ssl's own is one) where they are none."""
        context = ssl.create_default_context(
            cadata=None if self.authority is None else self.authority.decode()
        )
        # Python 3.13 asks of authorities what those of many clusters lack: a key identifier.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.certificate is not None:
            with tempfile.NamedTemporaryFile() as file:  # ssl reads these from files only; 0600 by default
                file.write(self.certificate + b"\n" + (self.key or b""))
                file.flush()
                context.load_cert_chain(file.name)
        return context


@dataclass(frozen=True, kw_only=True)
class Access:
    """An API server, the namespace where we order, and where our credentials are."""

    server: str
    namespace: str
    token: Source = None
    authority: Source = None
    certificate: Source = None
    key: Source = None

    def read_token(self) -> str | None:
        """The bearer token as it is now; None where there is none."""
        token = _read(self.token)
        return None if token is None else token.decode("ascii", "replace").strip()

    def read_trust(self) -> Trust:
        """What TLS needs, as it is now."""
        return Trust(_read(self.authority), _read(self.certificate), _read(self.key))


def _read(source: Source) -> bytes | None:
    if not isinstance(source, Path):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise LaunchError(f"{source} cannot be read: {error.strerror}") from None


def find_access(config: Path | None, namespace: str | None = None) -> Access:
    """By a kubeconfig if one is named, else as the Pod that we are, else by the kubeconfig in the home."""
    if config is not None:
        return from_kubeconfig(config, namespace)
    if (SERVICE_ACCOUNT / "token").exists():
        return from_pod(SERVICE_ACCOUNT, namespace)
    home = Path.home() / KUBECONFIG
    if home.exists():
        return from_kubeconfig(home, namespace)
    raise LaunchError(
        f"no Kubernetes to speak to: this is no Pod with a service account ({SERVICE_ACCOUNT}/token),"
        f" and there is no {home}: give --kubernetes_config FILE"
    )


def from_pod(folder: Path, namespace: str | None = None, server: str = SERVER) -> Access:
    """Access as a Pod has it, by what the cluster mounts into it."""
    own = (_read(folder / "namespace") or b"").decode().strip()
    return Access(
        server=server,
        namespace=namespace or own,
        token=folder / "token",
        authority=folder / "ca.crt",
    )


def from_kubeconfig(path: Path, namespace: str | None = None) -> Access:
    """Access as the current context of a kubeconfig describes it; `LaunchError` where it takes a program or
    a way that we do not have."""
    config = read_yaml(path)
    current = config.get("current-context") or ""
    context = _named(path, config, "contexts", "context", current)
    cluster = _named(path, config, "clusters", "cluster", context.get("cluster") or "")
    user = _named(path, config, "users", "user", context["user"]) if context.get("user") else {}
    for known, each in ((_CLUSTER, cluster), (_USER, user)):
        for strange in each.keys() - known:
            raise LaunchError(
                f"{path} asks for {strange}, and what is understood here is {', '.join(sorted(known))}"
            )
    return Access(
        server=_checked_server(path, str(cluster.get("server") or "")),
        namespace=namespace or context.get("namespace") or "default",
        token=str(user["token"]).encode() if "token" in user else _file(path, user.get("tokenFile")),
        authority=_material(path, cluster, "certificate-authority"),
        certificate=_material(path, user, "client-certificate"),
        key=_material(path, user, "client-key"),
    )


def _named(path: Path, config: Mapping[str, Any], many: str, one: str, name: str) -> dict[str, Any]:
    """The one of a kubeconfig's lists that has this name."""
    for each in config.get(many) or ():
        if isinstance(each, dict) and each.get("name") == name and isinstance(each.get(one), dict):
            found: dict[str, Any] = each[one]
            return found
    raise LaunchError(f"{path} has no {one} called {name!r} among its {many}")


def _checked_server(path: Path, server: str) -> str:
    """Its address; in plain text only where nobody can listen."""
    try:
        parts = urlsplit(server)
        is_ours = parts.scheme == "http" and is_loopback_host(parts.hostname or "")
    except ValueError:
        raise LaunchError(f"{path}: server {server!r} is no URL") from None
    if not parts.hostname or not (parts.scheme == "https" or is_ours):
        raise LaunchError(f"{path}: server {server!r} is no https:// URL (http:// is for this machine alone)")
    return server.rstrip("/")


def _file(path: Path, name: object) -> Path | None:
    """A file that a kubeconfig names; relative names begin where it is."""
    return path.parent / str(name) if name else None


def _material(path: Path, holder: Mapping[str, Any], name: str) -> Source:
    """PEM, in base64 inside the kubeconfig, or in a file of its own."""
    data = holder.get(f"{name}-data")
    if not data:
        return _file(path, holder.get(name))
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise LaunchError(f"{path}: {name}-data is no base64") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The one mapping in a file; `LaunchError` where there is none."""
    try:
        import yaml  # an extra
    except ImportError:
        raise LaunchError(f"--launcher kubernetes needs PyYAML: {EXTRA}") from None
    try:
        loaded = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise LaunchError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise LaunchError(f"{path} holds no mapping")
    return loaded
