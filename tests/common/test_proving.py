"""pure: who holds the fleet's token is believed and heard; nobody else is, by nothing recorded or changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import wire
from common.errors import Unproven, WireError
from common.proving import (
    GatewayProver,
    Survey,
    WorkerProver,
    fleet_key,
    is_same_address,
)
from common.sealing import ANSWER, QUESTION, Session, Window

KEY = fleet_key("correct horse battery staple")
OTHER = fleet_key("correct horse battery stable")
ADDRESS = "ws://gateway:54000/service"
HELLO = wire.encode(wire.Hello("g"))


def counted() -> Callable[[int], bytes]:
    numbers = itertools.count()
    return lambda size: next(numbers).to_bytes(size, "little")


def gateway_of(key: bytes = KEY, name: str = "g") -> GatewayProver:
    return GatewayProver(key, name, lambda address: address == ADDRESS)


class Ends:
    """A gateway's half and a worker's, and what each was handed."""

    def __init__(self, gateway_key: bytes = KEY, worker_key: bytes = KEY, address: str = ADDRESS) -> None:
        self.gateway = gateway_of(gateway_key)
        self.worker = WorkerProver(worker_key, "w", address)
        self.questions: list[bytes] = []

    def handle(self, question: memoryview) -> bytes:
        self.questions.append(bytes(question))
        return b"answer to " + bytes(question)

    def reply(self, survey: Survey) -> bytes | None:
        return self.worker.answer_survey(memoryview(survey.frame), self.handle)

    def ask(self, question: bytes = HELLO) -> bytes | None:
        """One survey, there and back."""
        survey = self.gateway.ask(question)
        reply = self.reply(survey)
        assert reply is not None
        answer = self.gateway.hear(survey, memoryview(reply))
        return None if answer is None else bytes(answer)

    def meet(self) -> None:
        assert self.ask() is None
        assert self.ask() == b"answer to " + HELLO


def test_a_worker_is_asked_nothing_before_both_have_proved_themselves():
    ends = Ends()
    assert ends.ask() is None
    assert (ends.questions, ends.gateway.session("w")) == ([], None)
    assert ends.gateway.is_awaited
    assert ends.ask() == b"answer to " + HELLO
    assert ends.questions == [HELLO]
    assert ends.gateway.session("w") is not None
    assert not ends.gateway.is_awaited


def test_a_stranger_that_dials_can_read_nothing_of_a_survey():
    frame = gateway_of().ask(wire.encode(wire.Drop(["the worker"], "the model", "the version"))).frame
    assert not any(word in frame for word in (b"the worker", b"the model", b"the version"))


def test_a_worker_with_another_token_is_refused_and_hears_nothing():
    ends = Ends(worker_key=OTHER)
    with pytest.raises(Unproven, match="the gateway has another fleet token, or it is somebody else"):
        ends.ask()
    assert ends.questions == []


def test_an_introduction_proved_by_another_token_is_refused():
    ends = Ends()
    theirs = GatewayProver(OTHER, "g", lambda address: True).ask(HELLO)
    said = WorkerProver(OTHER, "w", ADDRESS).answer_survey(memoryview(theirs.frame), ends.handle)
    assert said is not None
    with pytest.raises(Unproven, match="the proof of an introduction is wrong"):
        ends.gateway.hear(ends.gateway.ask(HELLO), memoryview(said))
    assert not ends.gateway.is_awaited


def test_an_introduction_that_was_recorded_is_refused():
    ends = Ends()
    recorded = ends.reply(ends.gateway.ask(HELLO))
    assert recorded is not None
    with pytest.raises(Unproven, match="or one that was recorded"):
        ends.gateway.hear(ends.gateway.ask(HELLO), memoryview(recorded))


def test_an_answer_to_hello_that_was_recorded_is_refused():
    ends = Ends()
    ends.meet()
    survey = ends.gateway.ask(HELLO)
    recorded = ends.reply(survey)
    assert recorded is not None
    with pytest.raises(Unproven, match="nor a sealed answer to this survey"):
        ends.gateway.hear(ends.gateway.ask(HELLO), memoryview(recorded))
    assert ends.gateway.hear(survey, memoryview(recorded)) is not None


def test_an_introduction_sent_to_another_address_is_refused():
    with pytest.raises(Unproven, match="for ws://evil:54000/service, which is not an address of this"):
        Ends(address="ws://evil:54000/service").ask()


def test_a_gateway_that_only_repeats_surveys_is_not_heard():
    ends = Ends()
    survey = ends.gateway.ask(HELLO)
    for _ in range(3):
        reply = ends.reply(survey)
        assert reply is not None
        assert isinstance(wire.decode(reply)[0], wire.Introduction)
    assert ends.questions == []


def test_a_survey_is_heard_once():
    ends = Ends()
    ends.meet()
    survey = ends.gateway.ask(HELLO)
    assert ends.reply(survey) is not None
    with pytest.raises(Unproven, match="a second time"):
        ends.reply(survey)
    assert len(ends.questions) == 2


def test_a_gateway_that_restarted_has_to_prove_itself_again():
    ends = Ends()
    ends.meet()
    ends.gateway = gateway_of(name="another")
    assert ends.ask() is None
    assert len(ends.questions) == 1
    assert ends.ask() == b"answer to " + HELLO


def test_a_worker_that_the_gateway_has_forgotten_introduces_itself_again():
    ends = Ends()
    ends.meet()
    fresh = gateway_of()  # the same name: as after so long a silence that the worker was forgotten
    for _ in range(10):
        fresh.ask(HELLO)
    ends.gateway = fresh
    with pytest.raises(Unproven, match="has not introduced itself"):
        ends.ask()
    assert ends.gateway.is_awaited
    assert ends.ask() is None
    assert ends.ask() == b"answer to " + HELLO


def test_surveys_that_overtake_the_proof_do_no_harm():
    ends = Ends()
    surveys = [ends.gateway.ask(HELLO) for _ in range(5)]
    said = [ends.reply(survey) for survey in surveys]
    for survey, introduction in zip(surveys, said, strict=True):
        assert introduction is not None
        assert ends.gateway.hear(survey, memoryview(introduction)) is None
    assert ends.ask() == b"answer to " + HELLO
    assert ends.ask() == b"answer to " + HELLO


def test_a_question_over_the_link_is_answered_once_and_only_if_sealed():
    ends = Ends()
    ends.meet()
    session = ends.gateway.session("w")
    assert session is not None
    number, sealed = session.seal(QUESTION, "w", b"rows")
    reply = ends.worker.answer_request(memoryview(sealed), ends.handle)
    assert reply is not None
    message, (answer,) = wire.decode(reply)
    assert (bytes(answer), message.number) == (b"answer to rows", number)
    assert session.fits(ANSWER, message, answer)
    for frame in (
        sealed,
        wire.encode(wire.Status()),
        Session(b"other").seal(QUESTION, "w", b"rows")[1],
        reply,
    ):
        with pytest.raises(Unproven):
            ends.worker.answer_request(memoryview(frame), ends.handle)
    assert ends.questions == [HELLO, b"rows"]


def test_a_worker_without_a_gateway_answers_nothing_over_a_link():
    ends = Ends()
    sealed = Session(b"").seal(QUESTION, "w", b"rows")[1]
    with pytest.raises(Unproven):
        ends.worker.answer_request(memoryview(sealed), ends.handle)


@given(st.permutations(range(1, 40)), st.integers(1, 5000))
def test_each_number_is_new_once_however_they_overtake(order, jump):
    window = Window()
    numbers = [*order, *(each + jump for each in order if each + jump > 39)]
    assert [window.is_new(each) for each in numbers] == [True] * len(numbers)
    assert not any(window.is_new(each) for each in numbers)


def test_numbers_far_behind_the_highest_are_not_new():
    window = Window()
    assert window.is_new(2**62)
    assert [window.is_new(2**62 - 4095), window.is_new(2**62 - 4096)] == [True, False]


@pytest.mark.parametrize(
    ("dialled", "own", "is_same"),
    [
        ("ws://gw:54000/service", "ws://0.0.0.0:54000/service", True),
        ("ws://10.0.0.5:54000/service", "ws://0.0.0.0:54000/service", True),
        ("ws://gw:54000/service", "ws://10.0.0.5:54000/service", True),
        ("ws://10.0.0.5:54000/service", "ws://gw:54000/service", True),
        ("ws://10.0.0.6:54000/service", "ws://10.0.0.5:54000/service", False),
        ("ws://gw:54001/service", "ws://0.0.0.0:54000/service", False),
        ("tcp://gw:54000", "ws://0.0.0.0:54000/service", False),
        ("ipc:///run/a", "ipc:///run/a", True),
        ("ipc:///run/b", "ipc:///run/a", False),
        ("nonsense", "ipc:///run/a", False),
    ],
)
def test_hosts_have_many_names_and_ports_have_one(dialled, own, is_same):
    assert is_same_address(dialled, own) is is_same


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_frame_that_was_changed_by_one_bit_is_believed_or_heard(data):
    ends = Ends()
    ends.meet()
    survey = ends.gateway.ask(HELLO)
    session = ends.gateway.session("w")
    assert session is not None
    sealed = session.seal(QUESTION, "w", b"rows")[1]
    reply = ends.reply(survey)
    assert reply is not None
    survey = ends.gateway.ask(HELLO)
    introduction = WorkerProver(KEY, "v", ADDRESS).answer_survey(memoryview(survey.frame), ends.handle)
    assert introduction is not None
    for frame, hear in (
        (survey.frame, lambda frame: ends.worker.answer_survey(frame, ends.handle)),
        (sealed, lambda frame: ends.worker.answer_request(frame, ends.handle)),
        (reply, lambda frame: ends.gateway.hear(survey, frame)),
        (introduction, lambda frame: ends.gateway.hear(survey, frame)),
    ):
        changed = bytearray(frame)
        at = data.draw(st.integers(0, 8 * len(frame) - 1))
        changed[at // 8] ^= 1 << at % 8
        with suppress(WireError):  # but nothing reads the bytes that fill up a header to a multiple of 8
            answer = hear(memoryview(changed))
            assert answer is None or b"answer to" in bytes(answer)
    assert set(ends.questions) <= {HELLO, b"rows"}


@given(st.binary(max_size=200))
def test_no_nonsense_is_believed_or_heard(nonsense):
    ends = Ends()
    ends.meet()
    for hear in (
        lambda: ends.worker.answer_survey(memoryview(nonsense), ends.handle),
        lambda: ends.worker.answer_request(memoryview(nonsense), ends.handle),
        lambda: ends.gateway.hear(ends.gateway.ask(HELLO), memoryview(nonsense)),
    ):
        with pytest.raises(WireError):
            hear()
