"""The five calls to the Kubernetes API: list, create and delete Pods, read a log, list nodes. Every failure
becomes a `LaunchError` with a sentence, here and nowhere else.

All five are safe to send again (a Pod's name is its worker's id), so a call whose answer was lost is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from common.errors import LaunchError
from gateway.launchers.kubernetes.access import EXTRA, Access, Trust
from gateway.launchers.kubernetes.pods import Json

if TYPE_CHECKING:
    import httpx

TIMEOUT = 10.0  # of a call, however often it is sent
CONNECT_TIMEOUT = 3.0
PAUSES = (0.1, 0.5)  # before it is sent again
PAGE = 500  # items in one answer, as kubectl has it
CONNECTIONS = 8  # at once: orders for a hundred workers wait for each other
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, ALREADY_EXISTS = 401, 403, 404, 409
NOT_STARTED = 400  # of a log: its container has not begun
TRY_LATER = (429, 500, 502, 503, 504)


class Refused(LaunchError):
    """Raised when the API answered, and not with what was asked for; `answered` is its HTTP status."""

    def __init__(self, message: str, answered: int) -> None:
        super().__init__(message)
        self.answered = answered


class Unreachable(LaunchError):
    """Raised when there was no answer; the call may have been carried out."""


class Call(NamedTuple):
    """A request, and what it is in the words of RBAC: a verb on a resource in a namespace ("": in all)."""

    verb: str
    resource: str
    namespace: str
    method: str
    path: str
    parameters: dict[str, str] | None = None
    content: Json | None = None

    def __str__(self) -> str:
        where = f"namespace {self.namespace}" if self.namespace else "all namespaces"
        return f"{self.verb} {self.resource} in {where}"


class Api:
    """An API server, asked through connections that `open_api` closes."""

    def __init__(self, access: Access, *, timeout: float) -> None:
        self._access = access
        self._timeout = timeout
        self._trust: Trust | None = None
        self._client: httpx.AsyncClient | None = None

    async def list_pods(self, selector: str) -> list[Json]:
        """The Pods of our namespace with these labels. Never from a cache: what was just ordered is there."""
        return await self._list(self._pods("list", "GET", parameters={"labelSelector": selector}))

    async def list_all_pods(self) -> list[Json]:
        """Every Pod of the cluster that is on a node and has not ended."""
        fields = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
        return await self._list(Call("list", "pods", "", "GET", "/api/v1/pods", {"fieldSelector": fields}))

    async def list_nodes(self) -> list[Json]:
        """Every node of the cluster."""
        return await self._list(Call("list", "nodes", "", "GET", "/api/v1/nodes"))

    async def create_pod(self, pod: Json) -> None:
        """Order a Pod; one of that name may be there, from an order whose answer was lost."""
        try:
            await self._ask(self._pods("create", "POST", content=pod))
        except Refused as error:
            if error.answered != ALREADY_EXISTS:
                raise

    async def delete_pod(self, name: str, grace: int) -> None:
        """Have a Pod end; it may be gone."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace}
        try:
            await self._ask(self._pods("delete", "DELETE", f"/{name}", content=options))
        except Refused as error:
            if error.answered != NOT_FOUND:
                raise

    async def read_log(self, name: str, container: str, lines: int) -> str:
        """The end of what a container has printed."""
        parameters = {"container": container, "tailLines": str(lines)}
        call = self._pods("get", "GET", f"/{name}/log", parameters)._replace(resource="pods/log")
        return (await self._ask(call)).decode(errors="replace")

    async def aclose(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()

    def _pods(
        self, verb: str, method: str, path: str = "", parameters: dict[str, str] | None = None,
        content: Json | None = None,
    ) -> Call:  # fmt: skip
        """A call about the Pods of our namespace."""
        ours = self._access.namespace
        return Call(verb, "pods", ours, method, f"/api/v1/namespaces/{ours}/pods{path}", parameters, content)

    async def _list(self, call: Call) -> list[Json]:
        """All items, of however many pages."""
        items: list[Json] = []
        parameters = {**(call.parameters or {}), "limit": str(PAGE)}
        while True:
            answer = await self._ask(call._replace(parameters=parameters))
            try:
                page = msgspec.json.decode(answer, type=_Page)
            except msgspec.DecodeError:
                raise LaunchError(
                    f"{self._access.server} is no Kubernetes API: it answered, to {call}, {answer[:80]!r}"
                ) from None
            items += page.items or ()
            if not page.metadata.continue_:
                return items
            parameters["continue"] = page.metadata.continue_

    async def _ask(self, call: Call) -> bytes:
        """The answer; the call is sent again when its answer was lost, or the server asks for that."""
        failure: LaunchError = Unreachable(
            f"the Kubernetes API at {self._access.server} did not {call} within {self._timeout:g} s"
        )
        with trio.move_on_after(self._timeout):
            for pause in (*PAUSES, None):
                try:
                    return await self._ask_once(call)
                except (Unreachable, Refused) as error:
                    failure = error
                if pause is None or (isinstance(failure, Refused) and failure.answered not in TRY_LATER):
                    break
                await trio.sleep(pause)
        raise failure

    async def _ask_once(self, call: Call) -> bytes:
        import httpx

        token = self._access.read_token()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            answer = await (await self._connected()).request(
                call.method,
                f"{self._access.server}{call.path}",
                params=call.parameters,
                content=None if call.content is None else msgspec.json.encode(call.content),
                headers=headers if token is None else {**headers, "Authorization": f"Bearer {token}"},
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Unreachable(
                f"the Kubernetes API at {self._access.server} cannot be reached: {_reason(error)}"
            ) from None
        if not answer.is_success:
            raise _refusal(call, answer.status_code, answer.content)
        return answer.content

    async def _connected(self) -> httpx.AsyncClient:
        """A client; a new one when the cluster has given out new certificates."""
        trust = self._access.read_trust()
        if self._client is None or trust != self._trust:
            old, self._client, self._trust = self._client, self._connect(trust), trust
            if old is not None:
                await old.aclose()
        return self._client

    def _connect(self, trust: Trust) -> httpx.AsyncClient:
        import httpx

        try:
            context = trust.context()
        except (ValueError, OSError) as error:
            raise LaunchError(
                f"the certificates for the Kubernetes API at {self._access.server} cannot be used: {error}"
            ) from None
        return httpx.AsyncClient(
            verify=context,
            trust_env=False,
            timeout=httpx.Timeout(self._timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=CONNECTIONS),
        )


class _Metadata(msgspec.Struct):
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    items: list[Json] | None
    metadata: _Metadata


class _Status(msgspec.Struct):
    """What the API answers in place of what was asked for."""

    message: str = ""


def _reason(error: BaseException) -> str:
    """The first words in a chain of errors: httpx wraps what TLS said in others that say nothing."""
    cause: BaseException | None = error
    while cause is not None:
        if str(cause):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _refusal(call: Call, answered: int, content: bytes) -> Refused:
    """A sentence that says what to do, where we know."""
    try:
        said = msgspec.json.decode(content, type=_Status).message
    except msgspec.DecodeError:
        said = ""
    said = said or content[:200].decode(errors="replace")
    if answered == UNAUTHORIZED:
        advice = "it does not take our token or certificate, which may have expired"
    elif answered == FORBIDDEN and " cannot " in said:  # quotas and admission say 403 too, and not this word
        role = "Role" if call.namespace else "ClusterRole"
        advice = f'a {role} has to allow the verb "{call.verb}" on "{call.resource}"'
    else:
        return Refused(f"the Kubernetes API refused to {call} ({answered}): {said}", answered)
    return Refused(f"the Kubernetes API refused to {call} ({answered}): {advice}. It says: {said}", answered)


@asynccontextmanager
async def open_api(access: Access, *, call_timeout: float = TIMEOUT) -> AsyncIterator[Api]:
    """An API to ask, closed at the end; nothing is asked yet."""
    try:
        import httpx  # noqa: F401 - an extra
    except ImportError:
        raise LaunchError(f"--launcher kubernetes needs httpx: {EXTRA}") from None
    api = Api(access, timeout=call_timeout)
    try:
        yield api
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await api.aclose()
