"""Deploying a package: into a gateway that runs, or into this process's own as soon as it does."""

from __future__ import annotations

import ssl

import trio

from common.errors import LoadError
from gateway.deploy.example import example
from gateway.deploy.package import Package
from gateway.deploy.upload import Deployed, RestClient, upload, wait_for_worker

WORKER_WAIT = 120.0  # for the first worker: importing torch takes a busy machine a while


def deploy_to(url: str, package: Package, *, token: str | None = None) -> str:
    """Deploy into the gateway at `url`; the line that says how to ask the model."""
    client = RestClient(url, token=token)
    return _line(client.url, upload(client, package))


async def deploy_here(
    url: str,
    package: Package,
    *,
    max_upload: int,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> str:
    """The same with this process's own gateway, which serves at `url` and has, or soon has, workers."""
    if package.size > max_upload:
        raise LoadError(f"{package.file} has {package.size} bytes, more than --max_upload {max_upload}")
    client = RestClient(url, token=token, tls=tls)

    def bring() -> Deployed:
        wait_for_worker(client, WORKER_WAIT)
        return upload(client, package)

    # The gateway may be told to end meanwhile; then nobody needs the thread, nor what it is told.
    return _line(client.url, await trio.to_thread.run_sync(bring, abandon_on_cancel=True))


def _line(url: str, deployed: Deployed) -> str:
    name, version = deployed.model["name"], deployed.version
    workers = f"{deployed.workers} worker{'' if deployed.workers == 1 else 's'}"
    if not deployed.workers:
        workers = "no worker yet: the first one that comes will try it"
    shown = example(url, deployed.model, version)
    return f"{name} version {version['version']} serves on {url} with {workers}. Try: {shown}"
