"""Lines: whatever is taken, put back and topped up, in whatever order, everybody is served once and in turn."""

from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ticketd.config import Limits
from ticketd.desks import Batch, Desks, Party
from ticketd.protocol import Book, Confirm

LIMITS = Limits(rows_per_desk_max=8, rows_per_commit_max=12)
DESKS = ["a", "b", "c", "d"]


class Answer:
    """Where a party is answered."""

    def __init__(self) -> None:
        self.replies: list[Any] | None = None

    def __call__(self, replies: list[Any]) -> None:
        self.replies = replies


def party(desk: str, arrived: float, quantity: int = 1, *, simple: bool = True) -> Party:
    """Somebody who wants tickets, or (not simple) confirms."""
    request = Book(desk, quantity) if simple else Confirm("b")
    return Party([request], "peer", desk, arrived, Answer(), quantity + 1 if simple else 2)


class Lines(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desks = Desks(LIMITS)
        self.clock = count()
        self.waiting: dict[str, list[Party]] = {desk: [] for desk in DESKS}
        self.batches: list[Batch] = []

    @rule(desk=st.sampled_from(DESKS), quantity=st.sampled_from([1, 1, 1, 3, 20]), simple=st.booleans())
    def somebody_comes(self, desk: str, quantity: int, simple: bool) -> None:
        somebody = party(desk, next(self.clock), quantity, simple=simple)
        self.waiting[desk].append(somebody)
        self.desks.add(somebody)

    @precondition(lambda self: self.desks.anybody)
    @rule(late=st.sampled_from([0, 0, 0, 5]))
    def a_batch_is_taken(self, late: int) -> None:
        oldest = next(self.clock) - late if late else -1
        batch = self.desks.take(oldest)
        assert batch.parties or batch.late, "nobody is kept waiting while nothing is being done"
        for somebody in batch.late:
            assert somebody.arrived < oldest
        self.leave([*batch.late, *batch.parties])
        assert len(batch.parties) == 1 or not any(each.alone for each in batch.parties)
        assert len(batch.parties) == 1 or sum(each.rows for each in batch.parties) <= LIMITS.rows_per_commit_max
        for desk in batch.desks:
            assert not any(desk in other.desks for other in self.batches), "an event is in one commit at a time"
        self.batches.append(batch)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def a_batch_is_topped_up(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(self.batches))
        before = list(batch.parties)
        more = self.desks.top_up(batch)
        assert batch.parties == [*before, *more]
        assert len(batch.parties) == 1 or not any(each.alone for each in batch.parties)
        for somebody in more:
            assert isinstance(somebody.requests[0], Book)
            assert somebody.desk in batch.desks
        self.leave(more)

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), how=st.sampled_from(["done", "done", "put back", "a bug"]))
    def a_batch_ends(self, data: st.DataObject, how: str) -> None:
        batch = data.draw(st.sampled_from(self.batches))
        self.batches.remove(batch)
        if how != "done":
            for somebody in reversed(batch.parties):
                somebody.alone = how == "a bug"
                self.waiting[somebody.desk].insert(0, somebody)
            self.desks.put_back(batch)
        self.desks.done(batch)

    def leave(self, parties: list[Party]) -> None:
        """See that nobody got past anybody who came before to the same desk."""
        for somebody in parties:
            assert self.waiting[somebody.desk].pop(0) is somebody

    @invariant()
    def everybody_is_there(self) -> None:
        assert len(self.desks) == sum(map(len, self.waiting.values()))
        for desk, line in self.waiting.items():
            assert self.desks.length(desk) == len(line)
        served = {desk for batch in self.batches for desk in batch.desks}
        assert self.desks.anybody == any(line and desk not in served for desk, line in self.waiting.items())

    def teardown(self) -> None:
        assert set(self.desks.clear()) == {somebody for line in self.waiting.values() for somebody in line}
        assert not self.desks.anybody


def test_everybody_is_served_once_and_in_turn_whatever_happens_to_the_batches() -> None:
    run_state_machine_as_test(Lines, settings=settings(deadline=None, max_examples=200, stateful_step_count=30))


def test_a_crowd_that_asks_again_and_again_is_served_in_halves() -> None:
    desks = Desks(Limits())
    arrivals = count()

    def come(number: int) -> None:
        for _ in range(number):
            desks.add(party("a", next(arrivals)))

    come(501)
    sizes: list[int] = []
    answered = 0
    for turn in range(8):
        batch = desks.take(-1)
        # While it is committed those ask again who were answered before. Once some are slow, and then both halves meet.
        come(answered if turn != 3 else answered - 150)
        if turn == 4:
            come(150)
        desks.done(batch)
        answered = len(batch.parties)
        sizes.append(answered)
    assert sizes == [251, 250, 251, 250, 101, 251, 250, 251]
