"""The rules offer what a model offers that searches a list from its front after each request, in any history."""

from datetime import timedelta
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.ledger.arrivals import about_lines
from tests.ledger.facts import minted, on_the_wire
from tests.ledger.model import DATE, HOLD_SECONDS_TOTAL_MAX, Model
from tests.rules.cases import committed, decide, decide_batch, last_part
from tests.rules.lines import offered_in_all
from ticketd.model import milliseconds, time_of
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.requests import Book, Create, Hold, Show, Wait

EVENTS = ("e1", "e2")
NOW = milliseconds(DATE)


class Lines(RuleBasedStateMachine):
    @initialize()
    def sell_out(self) -> None:
        self.rows = WorkingSet(map(last_part, count(1)).__next__, NOW)
        self.rows.hold_seconds_total_max = HOLD_SECONDS_TOTAL_MAX
        self.model = Model()
        self.past: list[LedgerRequest] = []
        self.decide([Create("A", DATE, 6, "e1"), Create("B", DATE, 5, "e2", 4, per_buyer=5)])
        self.decide([Book("e1", 4, "b1"), Hold("e1", 2, 60, "b2", "anna"), Book("e2", 4, "b3", "ben")])
        self.decide([Wait("e1", quantity, 60, f"b{9 - quantity}") for quantity in (4, 2, 1, 3)])

    def decide(self, batch: list[LedgerRequest], passed: timedelta = timedelta(0)) -> None:
        """Let the rules and the model decide, and compare all there is to see."""
        self.past += batch
        if self.model.may_end_early(batch):
            # The next one goes on.
            for part in [[], *([request] for request in batch)]:
                self.decide_together(part, passed)
                passed = timedelta(0)
        else:
            self.decide_together(batch, passed)
            assert not self.rows.unserved
        self.compare()

    def decide_together(self, batch: list[LedgerRequest], passed: timedelta) -> None:
        replies = decide_batch(self.rows, *batch, passed=passed)
        if self.rows.unserved:
            offered_in_all(self.rows)
        now = time_of(self.rows.now)
        self.model.expire(now)
        self.model.serve(now)
        for request, reply in zip(batch, map(on_the_wire, replies), strict=True):
            assert reply in self.model.decide(request, now, minted(reply)), request

    def compare(self) -> None:
        committed_rows = committed(self.rows)
        for show in [Show(id, "event") for id in EVENTS] + [Show(id, "booking") for id in self.rows.bookings]:
            assert on_the_wire(decide(committed_rows, show)) == self.model.read(show)

    def batches(self) -> st.SearchStrategy[list[LedgerRequest]]:
        return about_lines(self.model, self.past, time_of(self.rows.now))

    @rule(data=st.data())
    def requests_come(self, data: st.DataObject) -> None:
        self.decide(data.draw(self.batches()))

    @rule(data=st.data(), seconds=st.sampled_from([0.001, 1, 60]))
    def requests_come_later(self, data: st.DataObject, seconds: float) -> None:
        self.decide(data.draw(self.batches()), timedelta(seconds=seconds))

    @precondition(lambda self: self.model.next_expiry())
    @rule(early=st.sampled_from([0, 0, 1]))
    def a_hold_runs_out(self, early: int) -> None:
        expiry = self.model.next_expiry()
        assert expiry is not None
        self.decide([], timedelta(milliseconds=max(0, expiry - early - self.rows.now)))


def test_the_rules_agree_with_the_model_in_any_history() -> None:
    run_state_machine_as_test(Lines, settings=settings(max_examples=30, stateful_step_count=10))
