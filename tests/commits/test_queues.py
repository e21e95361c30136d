"""Whatever is taken, put back and refused, in whatever order: every submission is served once and in order."""

import math
from collections.abc import Sequence
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ticketd.commits.queues import Batch, Queues, Submission
from ticketd.config import Limits
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Book

LIMITS = Limits(rows_per_event_max=8, rows_per_commit_max=12)
QUEUES = ["a", "b", "c", "d"]


class Nobody:
    """Submits, and is never answered: queues answer nobody."""

    peer = "nobody"
    actor: str | None = None

    def deliver(self, replies: Sequence[Reply]) -> None:
        raise AssertionError


def unknown(booking: str) -> None:
    """No event of a booking is known."""


def submission(queue: str, arrived: float, rows: int = 1) -> Submission:
    return Submission(Nobody(), [Book(queue, rows)] if rows else [], queue, arrived, rows)


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queues = Queues(LIMITS, unknown, queue_per_connection=False)
        self.clock = count()
        self.waiting: dict[str, list[Submission]] = {queue: [] for queue in QUEUES}
        self.batches: list[Batch] = []

    @rule(queue=st.sampled_from(QUEUES), rows=st.sampled_from([0, 1, 1, 1, 3, 20]))
    def a_submission_comes(self, queue: str, rows: int) -> None:
        somebody = submission(queue, next(self.clock), rows)
        self.waiting[queue].append(somebody)
        self.queues.add(somebody)

    @precondition(lambda self: self.queues.ready)
    @rule(late=st.sampled_from([0, 0, 0, 5]))
    def a_batch_is_taken(self, late: int) -> None:
        oldest = next(self.clock) - late if late else -1
        batch = self.queues.take_batch(oldest)
        assert batch.submissions or batch.late, "nobody waits while nothing is being done"
        for somebody in batch.late:
            assert somebody.arrived < oldest
        self.leave([*batch.late, *batch.submissions])
        assert len(batch.submissions) == 1 or not any(each.alone for each in batch.submissions)
        assert len(batch.submissions) == 1 or sum(each.rows for each in batch.submissions) <= LIMITS.rows_per_commit_max
        assert set(batch.queues) == {somebody.queue for somebody in batch.submissions}
        for queue in batch.queues:
            # What is over the quota is part of the last submission.
            taken = [each.rows for each in batch.submissions if each.queue == queue]
            assert sum(taken[:-1]) <= LIMITS.rows_per_event_max
            assert not any(queue in other.queues for other in self.batches), "an event is in one commit at a time"
        self.batches.append(batch)

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), how=st.sampled_from(["done", "done", "put back", "a bug"]))
    def a_batch_ends(self, data: st.DataObject, how: str) -> None:
        batch = data.draw(st.sampled_from(self.batches))
        self.batches.remove(batch)
        if how != "done":
            for somebody in reversed(batch.submissions):
                somebody.alone = how == "a bug"
                self.waiting[somebody.queue].insert(0, somebody)
            self.queues.put_back(batch)
        self.queues.done(batch)

    @rule(late=st.integers(0, 10))
    def the_late_are_refused(self, late: int) -> None:
        oldest = next(self.clock) - late
        refused = self.queues.remove_late(oldest)
        self.leave(refused)
        for somebody in refused:
            assert somebody.arrived < oldest
        for submissions in self.waiting.values():
            assert not submissions or submissions[0].arrived >= oldest

    def leave(self, submissions: list[Submission]) -> None:
        """Check that nobody overtook another one of the same queue."""
        for somebody in submissions:
            assert self.waiting[somebody.queue].pop(0) is somebody

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queues) == sum(map(len, self.waiting.values()))
        for queue, submissions in self.waiting.items():
            in_commit = any(queue in batch.queues for batch in self.batches)
            assert self.queues.has(queue) == (in_commit or bool(submissions))
        served = {queue for batch in self.batches for queue in batch.queues}
        free = [submissions for queue, submissions in self.waiting.items() if queue not in served]
        assert self.queues.ready == any(free)

    def teardown(self) -> None:
        assert set(self.queues.remove_late(math.inf)) == set().union(*self.waiting.values())
        assert not self.queues.ready
        assert len(self.queues) == 0
        # What comes back after that is answered by nobody, and harms nobody.
        for batch in self.batches:
            self.queues.put_back(batch)
            self.queues.done(batch)


def test_every_submission_is_served_once_and_in_queue_order() -> None:
    run_state_machine_as_test(AnyOrder, settings=settings(max_examples=60, stateful_step_count=30))


def test_a_batch_goes_round_the_queues_and_ends_with_the_room() -> None:
    queues = Queues(LIMITS, unknown, queue_per_connection=False)
    for number in range(10):
        for queue in QUEUES:
            queues.add(submission(queue, number))
    batches = []
    while queues.ready:
        batch = queues.take_batch(-1)
        queues.done(batch)
        batches.append([(each, sum(s.queue == each for s in batch.submissions)) for each in batch.queues])
    assert batches[0] == [("a", 8), ("b", 4)]
    assert batches[1][0][0] == "c"
    assert sum(number for batch in batches for _, number in batch) == 40
