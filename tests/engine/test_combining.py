"""Pure: engine/combining.py by examples, and against a plain list by a state machine."""

from concurrent.futures import Future

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.errors import QueueFull
from engine.combining import NEVER, Request, RequestQueue


def request(count: int = 1, *, entered: float = 0.0, deadline: float = NEVER, future=None) -> Request:
    return Request((), [b""], count, entered, deadline, future)


def queue(*, batch_size: int = 3, max_wait: float = 0.0, max_size: int = 100) -> RequestQueue:
    return RequestQueue(batch_size=batch_size, max_wait=max_wait, max_size=max_size)


def test_who_finds_nobody_at_work_has_the_turn_and_the_others_wait_for_it() -> None:
    line = queue()
    a, b, c = request(), request(), request()
    assert [line.enter(each) for each in (a, b, c)] == [True, False, False]
    assert line.take() == [a, b, c]
    assert line.pass_on() is None
    assert line.is_idle


def test_the_turn_goes_to_whoever_has_waited_longest_so_each_leads_one_batch_at_most() -> None:
    line = queue(batch_size=2)
    a, b, c, d = (request() for _ in range(4))
    line.enter(a)
    assert line.take() == [a]
    for each in (b, c, d):
        assert not line.enter(each)
    assert line.pass_on() is b
    assert line.take() == [b, c]
    assert line.pass_on() is d
    assert (line.take(), line.pass_on()) == ([d], None)


def test_a_batch_has_no_more_rows_than_it_may_and_nobody_overtakes() -> None:
    line = queue(batch_size=4)
    a, b, c = request(3), request(2), request(1)
    for each in (a, b, c):
        line.enter(each)
    assert line.take() == [a]
    line.pass_on()
    assert line.take() == [b, c]


def test_a_full_queue_says_so_at_once_unless_what_comes_was_let_in_before() -> None:
    line = queue(max_size=2)
    line.enter(request())
    line.take()
    line.enter(request())
    line.enter(request())
    with pytest.raises(QueueFull, match=r"^2 requests wait already: come back later$"):
        line.enter(request())
    assert line.enter(request(), admitted=True) is False
    assert len(line) == 3


def test_a_cancelled_future_is_left_out_and_its_waiters_are_told() -> None:
    line = queue()
    gone, kept = Future(), Future()
    line.enter(request(future=gone))
    line.enter(request(future=kept))
    assert gone.cancel()
    assert [each.future for each in line.take()] == [kept]
    assert kept.running()
    assert gone._state == "CANCELLED_AND_NOTIFIED"


def test_who_leaves_makes_room_and_is_not_taken() -> None:
    line = queue(max_size=1)
    a, b = request(), request()
    line.enter(a)
    line.take()
    line.enter(b)
    assert line.leave(b)
    assert not line.leave(b)
    assert not line.withdraw(Future())
    assert (len(line), line.rows) == (0, 0)
    assert line.pass_on() is None


def test_who_is_abandoned_waits_no_longer_and_who_has_the_turn_keeps_it() -> None:
    line = queue()
    a, b = request(), request()
    line.enter(a)
    line.enter(b)
    assert line.abandon() == [a, b]
    assert line.leader is a
    assert line.take() == []
    assert line.pass_on() is None


@pytest.mark.parametrize(
    ("entered", "due"),
    [
        ([], -NEVER),
        ([5.0], 6.0),
        ([5.0, 5.5], 6.0),
        ([5.0, 5.0, 5.0], -NEVER),  # full
    ],
)
def test_a_batch_waits_for_others_until_it_is_full_or_the_first_has_waited_enough(entered, due) -> None:
    line = queue(max_wait=1.0)
    for at in entered:
        line.enter(request(entered=at))
    assert line.due() == due


def test_a_deadline_is_not_waited_away() -> None:
    line = queue(max_wait=1.0)
    line.enter(request(entered=5.0))
    line.enter(request(entered=5.1, deadline=5.3))
    assert line.due() == pytest.approx(5.2)
    line.is_closing = True
    assert line.due() == -NEVER


class QueueMachine(RuleBasedStateMachine):
    """Callers come, go and take turns in any order; the model is a list of who waits and who has the turn."""

    @initialize(batch_size=st.integers(1, 4), max_size=st.integers(1, 5))
    def start(self, batch_size: int, max_size: int) -> None:
        self.queue = queue(batch_size=batch_size, max_size=max_size)
        self.waiting: list[Request] = []
        self.leader: Request | None = None
        self.has_taken = False
        self.let_in: list[Request] = []
        self.done: list[Request] = []

    @rule(count=st.integers(1, 4), is_future=st.booleans(), admitted=st.booleans())
    def enter(self, count: int, is_future: bool, admitted: bool) -> None:
        new = request(min(count, self.queue.batch_size), future=Future() if is_future else None)
        if len(self.waiting) >= self.queue.max_size and not admitted:
            with pytest.raises(QueueFull):
                self.queue.enter(new)
            return
        assert self.queue.enter(new, admitted=admitted) == (self.leader is None)
        self.waiting.append(new)
        self.let_in.append(new)
        if self.leader is None:
            self.leader, self.has_taken = new, False

    @precondition(lambda self: self.leader is not None and not self.has_taken)
    @rule()
    def take(self) -> None:
        expected: list[Request] = []
        while self.waiting:
            first = self.waiting[0]
            if expected and sum(each.count for each in expected) + first.count > self.queue.batch_size:
                break
            self.waiting.pop(0)
            if first.future is None or not first.future.cancelled():
                expected.append(first)
            else:
                self.done.append(first)
        assert self.queue.take() == expected
        assert sum(each.count for each in expected) <= self.queue.batch_size
        self.done += expected
        self.has_taken = True

    @precondition(lambda self: self.has_taken)
    @rule()
    def pass_on(self) -> None:
        self.leader = self.waiting[0] if self.waiting else None
        self.has_taken = False
        assert self.queue.pass_on() is self.leader

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_or_leave(self, data) -> None:
        chosen = data.draw(st.sampled_from(self.waiting))
        if chosen.future is not None and data.draw(st.booleans()):
            chosen.future.cancel()
            return
        assert self.queue.leave(chosen)
        self.waiting.remove(chosen)
        self.done.append(chosen)
        if self.leader is chosen and not self.has_taken:
            self.has_taken = True  # who leaves with the turn passes it on

    @rule()
    def abandon(self) -> None:
        assert self.queue.abandon() == self.waiting
        self.done += self.waiting
        self.waiting.clear()

    @invariant()
    def the_queue_is_what_the_model_is(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue.rows == sum(each.count for each in self.waiting)
        assert self.queue.leader is self.leader

    @invariant()
    def nobody_waits_while_nobody_has_the_turn(self) -> None:
        assert self.leader is not None or not self.waiting

    @invariant()
    def nobody_is_lost_or_served_twice(self) -> None:
        assert sorted(map(id, self.let_in)) == sorted(map(id, self.done + self.waiting))


TestTheQueueIsItsModel = QueueMachine.TestCase
TestTheQueueIsItsModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
