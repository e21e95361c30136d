"""The holds in memory, against a dictionary: what is due, and when the next one is, whatever becomes of commits."""

import tracemalloc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ticketd.ledger.embedded.holds import LEFT_MAX, Holds
from ticketd.model import Booking, BookingState

EVENTS = ["e", "f"]
SECONDS = st.integers(1, 6)
Held = tuple[str, int, int]


def booking(id_: str, held: Held, state: BookingState) -> Booking:
    event, quantity, expires = held
    return Booking(id_, event, quantity, state, [], 0, 1, 1, 1, expires)


class HoldsMachine(RuleBasedStateMachine):
    """Does to Holds what a ledger does, and to a dictionary of what is held, as it is committed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100
        self.active: dict[str, Held] = {}
        self.ids: list[str] = []

    @initialize(begun=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 3), SECONDS), max_size=5))
    def open(self, begun: list[Held]) -> None:
        self.active = {self.new_id(): (event, quantity, self.now + left - 3) for event, quantity, left in begun}
        self.holds = Holds((id_, *held) for id_, held in self.active.items())

    def new_id(self) -> str:
        self.ids.append(f"h{len(self.ids)}")
        return self.ids[-1]

    @rule(seconds=st.integers(-8, 8))
    def set_clock(self, seconds: int) -> None:
        self.now += seconds

    @rule(
        begun=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 3), SECONDS), max_size=3),
        ended=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["confirmed", "released"])), max_size=3),
        extended=st.lists(st.tuples(st.integers(0, 20), SECONDS), max_size=3),
        bought=st.booleans(),
        fails=st.booleans(),
    )
    def commit(
        self,
        begun: list[Held],
        ended: list[tuple[int, BookingState]],
        extended: list[tuple[int, int]],
        bought: bool,
        fails: bool,
    ) -> None:
        """Do what a ledger does for a batch: end what is due, hold, extend, confirm and release; it may fail."""
        expiry = self.holds.next_expiry
        due = self.holds.take_due(self.now) if expiry is not None and expiry <= self.now else {}
        over = {id_ for id_, (_, _, expires) in self.active.items() if expires <= self.now}
        expected: dict[str, int] = {}
        for id_ in over:
            event, quantity, _ = self.active[id_]
            expected[event] = expected.get(event, 0) + quantity
        assert due == expected
        after = {id_: held for id_, held in self.active.items() if id_ not in over}
        changed: list[Booking] = []
        for place, state in ended:
            if after:
                id_ = list(after)[place % len(after)]
                changed.append(booking(id_, after.pop(id_), state))
        for place, left in extended:
            if after:
                id_ = list(after)[place % len(after)]
                event, quantity, expires = after.pop(id_)
                after[id_] = (event, quantity, expires + left)
                changed = [each for each in changed if each.id != id_] + [booking(id_, after[id_], "held")]
        for event, quantity, left in begun:
            held = (event, quantity, self.now + left)
            id_ = self.new_id()
            after[id_] = held
            changed.append(booking(id_, held, "held"))
        if bought:
            changed.append(Booking("b", "e", 1, "confirmed", ["t"], 0, 1, 1))
        if fails:
            self.holds.put_back_due()
        else:
            self.holds.apply(changed, expired=bool(due))
            self.active = after

    @invariant()
    def the_next_expiry_is_the_earliest_of_all(self) -> None:
        assert self.holds.next_expiry == min((expires for _, _, expires in self.active.values()), default=None)

    @invariant()
    def what_is_held_is_known(self) -> None:
        known = {id_: self.holds.held(id_) for id_ in [*self.ids, "b", "none"]}
        assert known == {id_: self.active[id_][:2] if id_ in self.active else None for id_ in known}


HoldsMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestHolds = HoldsMachine.TestCase


def test_what_is_due_stays_due_until_a_commit_ends_it() -> None:
    holds = Holds([("h", "e", 2, 50)])
    assert [holds.take_due(50), holds.take_due(50), holds.take_due(60)] == [{"e": 2}] * 3
    holds.apply([], expired=True)
    assert (holds.take_due(60), holds.next_expiry) == ({}, None)


def test_a_hold_released_after_a_failed_commit_is_forgotten() -> None:
    holds = Holds([("h", "e", 2, 50), ("i", "e", 1, 80)])
    assert holds.take_due(60) == {"e": 2}
    holds.put_back_due()
    # The clock was set back, so it can be released again.
    holds.apply([booking("h", ("e", 2, 50), "released")], expired=False)
    assert (holds.next_expiry, holds.take_due(60)) == (80, {})


def test_a_hold_begun_after_a_failed_commit_may_be_the_next() -> None:
    holds = Holds([("h", "e", 2, 50)])
    holds.take_due(60)
    holds.put_back_due()
    holds.apply([booking("i", ("e", 1, 20), "held")], expired=False)
    assert (holds.next_expiry, holds.take_due(30), holds.take_due(10)) == (20, {"e": 1}, {})


def test_holds_that_end_long_before_their_time_are_forgotten() -> None:
    holds = Holds([("first", "e", 1, 86_400_000)])
    tracemalloc.start()
    try:
        for number in range(5 * LEFT_MAX):
            held = ("e", 1, 86_400_000 + number)
            holds.apply([booking(f"h{number}", held, "held")], expired=False)
            holds.apply([booking(f"h{number}", held, "confirmed")], expired=False)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 300 * LEFT_MAX
    assert (holds.next_expiry, holds.take_due(86_400_000)) == (86_400_000, {"e": 1})
