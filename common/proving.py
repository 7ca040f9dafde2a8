"""How a gateway and a worker prove to each other that they hold the fleet's token. Pure.

    gateway → everyone    a survey: its nonce, and a text that only who holds the token can read
    worker  → gateway     an introduction: a nonce of its own, and a proof over both
    gateway → everyone    the next survey, with a proof for that worker in it
    worker  → gateway     its answer, sealed; and sealed is every frame of either from now on

A proof is HMAC-SHA256 by the token over both nonces, both processes' ids, the address that the worker
dialled and whose proof it is; of the same comes the session's secret. A frame that is sealed carries a number
that comes once and an HMAC over that and all of it. So a frame that was recorded is of no use: not to another
process, not at another address, not a second time, not the other way.

Surveys go to everybody who is connected, strangers too. So their text is masked, by a stream that SHAKE-256
makes of a key and the survey's nonce, and then sealed by a key that this gateway process shares with all who
hold the token. Batches and weights go over links, which carry nothing before both ends have proved
themselves, and are not masked: who can read the line can read them, and TLS is what stops that.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from common import wire
from common.addresses import parse_address
from common.errors import Unproven
from common.sealing import ANSWER, Session, Window, eight_of, hmac_of

NONCE = 16
_FORGOTTEN = 1200  # surveys without an answer, ten minutes at least
_AGAIN = 20  # surveys after which a proof that nobody used is made anew
_PENDING = 2 * _AGAIN
_MOST_UNKNOWN = 64
_LONGEST_ID = 64
_LONGEST_ADDRESS = 512


def fleet_key(token: str) -> bytes:
    """The key that all others come of."""
    return hmac_of(b"pipeline fleet token", token.encode())


def is_same_address(dialled: str, own: str) -> bool:
    """Whether a worker that dialled one address may have reached a gateway that listens on the other.

    A host has many names, and the gateway may listen on all of them: hosts are compared only where both are
    written as numbers.
    """
    try:
        theirs, ours = parse_address(dialled), parse_address(own)
    except ValueError:
        return False
    if (theirs.scheme, theirs.port, theirs.path) != (ours.scheme, ours.port, ours.path):
        return False
    is_any = ours.host in ("0.0.0.0", "::")  # nosec B104  # it is only looked for
    return is_any or not (_is_number(theirs.host) and _is_number(ours.host)) or theirs.host == ours.host


def _is_number(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


class _Transcript(NamedTuple):
    """What a proof is over."""

    gateway: str
    gateway_nonce: bytes
    worker: str
    worker_nonce: bytes
    address: str

    def prove(self, key: bytes, role: bytes) -> bytes:
        fields = [each if isinstance(each, bytes) else each.encode() for each in self]
        return hmac_of(key, b"".join(len(each).to_bytes(4, "little") + each for each in (role, *fields)))

    def session(self, key: bytes) -> Session:
        return Session(self.prove(key, b"session"))


class Survey(NamedTuple):
    """A question to everybody, as it is sent."""

    nonce: bytes
    number: int
    frame: bytes


class _Veil:
    """The text of one gateway process's surveys."""

    def __init__(self, key: bytes, gateway: str) -> None:
        self._mask = hmac_of(key, b"survey mask" + gateway.encode())
        self._seal = hmac_of(key, b"survey seal" + gateway.encode())

    def mask(self, nonce: bytes, text: bytes | memoryview) -> bytes:
        """Masked text of text, and the other way round."""
        stream = hashlib.shake_256(self._mask + nonce).digest(len(text))
        whole = int.from_bytes(stream, "little") ^ int.from_bytes(text, "little")
        return whole.to_bytes(len(text), "little")

    def mac(self, nonce: bytes, number: int, masked: bytes | memoryview) -> bytes:
        keyed = hmac.new(self._seal, nonce + eight_of(number), "sha256")
        keyed.update(masked)
        return keyed.digest()


class _Peer:
    """A worker that has introduced itself. `fresh` is a session that it has not used yet, with our proof."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.fresh: tuple[Session, bytes] | None = None
        self.met = 0  # the number of the survey that it introduced itself to
        self.heard = 0  # … and that it answered last


class GatewayProver:
    """The gateway's half. `is_own` says whether it may be reached at an address.

    Invariant: nothing of a worker is believed but what was sealed by a session that came of its proof.
    """

    def __init__(
        self,
        key: bytes,
        gateway: str,
        is_own: Callable[[str], bool],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._key = key
        self._gateway = gateway
        self._is_own = is_own
        self._random = random
        self._veil = _Veil(key, gateway)
        self._numbers = itertools.count(1)
        self._peers: dict[str, _Peer] = {}
        self._unknown: set[str] = set()  # who is to introduce itself again
        self.is_awaited = False  # somebody waits for what the next survey brings

    def session(self, worker: str) -> Session | None:
        """The one that its frames are sealed by."""
        peer = self._peers.get(worker)
        return None if peer is None else peer.session

    def ask(self, question: bytes) -> Survey:
        """A survey of a question."""
        nonce, number = self._random(NONCE), next(self._numbers)
        proofs = {worker: peer.fresh[1] for worker, peer in self._peers.items() if peer.fresh is not None}
        proofs |= dict.fromkeys(self._unknown, b"")
        self._unknown.clear()
        self.is_awaited = False
        for worker in [w for w, peer in self._peers.items() if number - peer.heard > _FORGOTTEN]:
            del self._peers[worker]
        text = self._veil.mask(nonce, wire.encode(wire.Proofs(proofs), [question]))
        mac = self._veil.mac(nonce, number, text)
        return Survey(nonce, number, wire.encode(wire.Veiled(self._gateway, nonce, number, mac), [text]))

    def hear(self, survey: Survey, frame: memoryview) -> memoryview | None:
        """The answer in a frame that came to a survey; None for an introduction. `Unproven` for all else."""
        message, buffers = wire.decode(frame)
        if isinstance(message, wire.Introduction):
            self._meet(survey, message)
            return None
        if not isinstance(message, wire.Sealed) or len(buffers) != 1 or message.number != survey.number:
            raise Unproven("it is neither an introduction nor a sealed answer to this survey")
        peer = self._peers.get(message.worker)
        if peer is None:
            if len(self._unknown) < _MOST_UNKNOWN and len(message.worker) <= _LONGEST_ID:
                self._unknown.add(message.worker)
                self.is_awaited = True
            raise Unproven("it is sealed, and whoever sent it has not introduced itself")
        if peer.fresh is not None and peer.fresh[0].fits(ANSWER, message, buffers[0]):
            peer.session, peer.fresh = peer.fresh[0], None
        elif peer.session is None or not peer.session.fits(ANSWER, message, buffers[0]):
            raise Unproven("its seal is not this worker's")
        peer.heard = survey.number
        return buffers[0]

    def _meet(self, survey: Survey, said: wire.Introduction) -> None:
        if len(said.worker) > _LONGEST_ID or len(said.address) > _LONGEST_ADDRESS or len(said.nonce) != NONCE:
            raise Unproven("an introduction of the wrong size")
        transcript = _Transcript(self._gateway, survey.nonce, said.worker, said.nonce, said.address)
        if not hmac.compare_digest(said.proof, transcript.prove(self._key, b"worker")):
            raise Unproven("the proof of an introduction is wrong: another token, or one that was recorded")
        if not self._is_own(said.address):
            raise Unproven(f"an introduction is for {said.address}, which is not an address of this gateway")
        peer = self._peers.setdefault(said.worker, _Peer())
        peer.heard = survey.number
        if peer.fresh is None or survey.number - peer.met > _AGAIN:  # else our proof is under way
            peer.met = survey.number
            self.is_awaited = True
            peer.fresh = transcript.session(self._key), transcript.prove(self._key, b"gateway")


class WorkerProver:
    """The worker's half; `address` is what it dials. Thread-safe.

    Invariant: no question reaches the worker but of the gateway process that has proved itself last.
    """

    def __init__(
        self, key: bytes, worker: str, address: str, random: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._key = key
        self._worker = worker
        self._address = address
        self._random = random
        self._lock = threading.Lock()
        self._pending: deque[tuple[str, bytes, Session]] = deque(maxlen=_PENDING)  # gateway, its proof
        self._sessions: tuple[Session, ...] = ()  # the one before too: what it sealed may be under way
        self._gateway = ""
        self._surveys = Window()
        self.refused = 0  # introductions in a row that nobody answered

    def answer_survey(self, frame: memoryview, handle: Callable[[memoryview], bytes | None]) -> bytes | None:
        """What to answer: an introduction to a gateway that has not proved itself yet, else what `handle`
        says to the question, sealed. `Unproven` for what no gateway with the token has sent."""
        message, buffers = wire.decode(frame)
        if not isinstance(message, wire.Veiled) or len(buffers) != 1 or len(message.nonce) != NONCE:
            raise Unproven("the gateway asks without a fleet token: it has none, or it is somebody else")
        veil, masked = _Veil(self._key, message.gateway), buffers[0]
        if not hmac.compare_digest(message.mac, veil.mac(message.nonce, message.number, masked)):
            raise Unproven("the gateway has another fleet token, or it is somebody else")
        proofs, (question,) = wire.expect(wire.Proofs, veil.mask(message.nonce, masked))
        session = self._accept(message, proofs.of)
        if session is None:
            return self._introduce(message)
        answer = handle(question)
        return None if answer is None else session.seal(ANSWER, self._worker, answer, message.number)[1]

    def _accept(self, survey: wire.Veiled, proofs: Mapping[str, bytes]) -> Session | None:
        """The session with a gateway that has proved itself; None with another."""
        with self._lock:
            proof = proofs.get(self._worker)
            for gateway, expected, session in self._pending:
                if proof and gateway == survey.gateway and hmac.compare_digest(proof, expected):
                    self._welcome(gateway, session)
            if survey.gateway != self._gateway or proof == b"":
                return None
            if not self._surveys.is_new(survey.number):
                raise Unproven("a survey came a second time")
            return self._sessions[0]

    def _welcome(self, gateway: str, session: Session) -> None:
        if gateway != self._gateway:
            self._gateway, self._surveys, self._sessions = gateway, Window(), ()
        if session not in self._sessions:
            self._sessions = (session, *self._sessions[:1])
        self.refused = 0

    def _introduce(self, survey: wire.Veiled) -> bytes:
        mine = _Transcript(survey.gateway, survey.nonce, self._worker, self._random(NONCE), self._address)
        proof, session = mine.prove(self._key, b"worker"), mine.session(self._key)
        with self._lock:
            self._pending.append((survey.gateway, mine.prove(self._key, b"gateway"), session))
            self.refused += 1
        return wire.encode(wire.Introduction(self._worker, self._address, mine.worker_nonce, proof))

    def answer_request(self, frame: memoryview, handle: Callable[[memoryview], bytes | None]) -> bytes | None:
        """What `handle` says to a question over the link, sealed. `Unproven` for what is not of the gateway
        that has proved itself, or came before."""
        message, buffers = wire.decode(frame)
        if not isinstance(message, wire.Sealed) or len(buffers) != 1:
            raise Unproven("a frame over the link is not sealed")
        for session in self._sessions:
            if session.open_question(message, buffers[0]):
                answer = handle(buffers[0])
                return (
                    None if answer is None else session.seal(ANSWER, self._worker, answer, message.number)[1]
                )
        raise Unproven("a frame over the link is not sealed by the gateway, or came a second time")
