"""The rules offer what a model offers that searches a list from its front after each request, in any history."""

from datetime import timedelta
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from msgspec import UNSET

from tests.ledger.facts import minted, on_the_wire
from tests.ledger.model import DATE, HOLD_SECONDS_TOTAL_MAX, Model
from tests.rules.cases import committed, decide, decide_batch, last_part
from tests.rules.lines import offered_in_all
from ticketd.model import milliseconds, time_of
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Create, Extend, Hold, Release, Show, Wait

EVENTS = ("e1", "e2")
BUYERS = (UNSET, UNSET, "anna", "ben")
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
        if self.somebody_may_have_too_many(batch):
            # They leave at their turn, and a batch has not read who comes after them. The next one has.
            for part in [[], *([request] for request in batch)]:
                self.decide_together(part, passed)
                passed = timedelta(0)
        else:
            self.decide_together(batch, passed)
            assert not self.rows.unserved
        self.compare()

    def somebody_may_have_too_many(self, batch: list[LedgerRequest]) -> bool:
        limited = [event for event in self.model.events if self.model.events[event]["terms"]["per_buyer"]]
        too_many = any(self.model.has_too_many(row) for event in limited for row in self.model.line(event))
        return too_many or any(isinstance(request, Amend) and request.per_buyer for request in batch)

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
        """Return requests that come together. Most of them join a line, or free tickets for those in it."""
        model, now = self.model, time_of(self.rows.now)
        event, booking, buyer = st.sampled_from(EVENTS), st.sampled_from([*model.bookings]), st.sampled_from(BUYERS)
        # Not in the order of arrival.
        fresh = st.sampled_from([f"{letter}{len(model.bookings)}" for letter in "acegikmoqsuwy"])
        quantity, seconds = st.integers(1, 4), st.sampled_from([1, 60])
        sold = [id for id, row in model.tickets.items() if not row["end"]]
        ticket = st.sampled_from(sold or ["b1.000000000000"])
        of_one = st.builds(lambda id: Cancel(id.rpartition(".")[0], [id]), ticket)
        opens, closes = (
            st.sampled_from([None, *(now + timedelta(seconds=seconds) for seconds in times)])
            for times in [(0, 1, 30), (31, 90)]
        )
        return st.lists(
            st.one_of(
                *[st.builds(Wait, event, quantity, seconds, fresh, buyer)] * 6,
                *[of_one, st.builds(Cancel, booking), st.builds(Release, booking)] * 2,
                st.builds(Amend, event, capacity=st.integers(5, 12)),
                st.builds(Amend, event, opens=st.none(), closes=st.none(), paused=st.just(False)),
                st.builds(Amend, event, opens=opens, closes=closes, paused=st.booleans()),
                st.builds(Amend, event, per_buyer=st.sampled_from([None, None, 2, 5])),
                st.builds(Book, event, quantity, fresh, buyer),
                st.builds(Hold, event, quantity, seconds, fresh, buyer),
                st.builds(Confirm, booking, st.booleans()),
                st.builds(Extend, booking, st.sampled_from([1, 60, 100])),
                st.sampled_from(self.past),
            ),
            min_size=1,
            max_size=8,
        )

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
