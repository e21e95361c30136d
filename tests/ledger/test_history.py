"""Both ledgers and the model agree over any history."""

import asyncio
from collections.abc import Iterable
from copy import deepcopy
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.faketime import Clock
from tests.ledger.arrivals import about_lines, batches, readings
from tests.ledger.facts import minted, on_the_wire
from tests.ledger.model import DATE, HOLD_SECONDS_TOTAL_MAX, Model
from tests.ledgers import EmbeddedStorage, PostgresStorage, Storage, read, result_of, transact
from tests.postgres import Server
from ticketd.ledger.base import SharedLedger
from ticketd.model import Event, time_of
from ticketd.rules.showing import event_reply
from ticketd.rules.working_set import Adopt, LedgerRequest
from ticketd.wire.replies import ErrorReply
from ticketd.wire.requests import Bookings, Cancel, Confirm, Create, Extend, Release, Request, Show

# No line is longer that whoever is in it could have too many tickets.
BATCHES_MAX = 5
NAMES = ["box-1", "door.2", None]
FULL = ErrorReply("storage_full", "nothing can be committed")


class Histories(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.model = Model()
        self.past: list[LedgerRequest] = []
        self.storage = self.new_storage()
        self.start()
        self.decide([Create("A", DATE, 6, "e1"), Adopt(Event("e2", "B", DATE, 9, 5, 0, 4, 0, 4))])

    def new_storage(self) -> Storage:
        self.folder = TemporaryDirectory()
        return EmbeddedStorage(Path(self.folder.name) / "ledger", self.clock, HOLD_SECONDS_TOTAL_MAX)

    def clean_up(self) -> None:
        self.folder.cleanup()

    def start(self) -> None:
        self.ledger = self.runner.run(self.storage.open())

    def decide(self, batch: list[LedgerRequest]) -> None:
        """Let the ledger and the model decide, and compare all there is to see."""
        self.past += batch
        if self.model.may_end_early(batch):
            for part in [[], *([request] for request in batch)]:
                self.decide_together(part, batches_more=BATCHES_MAX)
        else:
            self.decide_together(batch)

    def decide_together(self, batch: list[LedgerRequest], batches_more: int = 0) -> None:
        """Compare after a batch, and after so many more that serve the rest of the lines."""
        self.look_before()
        actors = self.actors(len(batch))
        committed = self.runner.run(transact(self.ledger, deepcopy(batch), actors))
        events = {event.id: event for event in committed.events}
        for _ in range(batches_more):
            events |= {event.id: event for event in self.runner.run(transact(self.ledger, [])).events}
        self.look()
        now = self.now()
        self.model.changed.clear()
        self.model.deleted.clear()
        self.model.expire(now)
        self.model.serve(now)
        names = actors or [None] * len(batch)
        for request, actor, reply in zip(batch, names, map(on_the_wire, committed.replies), strict=True):
            assert reply in self.model.decide(request, now, minted(reply), actor)
        self.check_next_expiry(now)
        assert events.keys() >= self.model.changed
        assert set(committed.removed) == self.model.deleted
        self.compare(events.values())
        self.check_events()

    def check_next_expiry(self, now: datetime) -> None:
        """It is when the next hold runs out, or the next sale opens for somebody in line. It may come too early."""
        times = [self.model.next_expiry(), self.model.next_turn(now)]
        expected = min((time for time in times if time is not None), default=None)
        if any(map(self.model.line, self.model.events)):
            assert expected is None or (self.ledger.next_expiry is not None and self.ledger.next_expiry <= expected)
        else:
            assert self.ledger.next_expiry == expected

    def actors(self, count: int) -> list[str | None] | None:
        """Return the names of those who send the next requests. Of some batches, none is known."""
        turn = len(self.past)
        return [NAMES[(turn + place) % len(NAMES)] for place in range(count)] if turn % 4 else None

    def now(self) -> datetime:
        """Return the time as ledgers see it."""
        return time_of(self.clock())

    def read(self, batch: list[Request]) -> None:
        replies = self.runner.run(read(self.ledger, batch))
        assert [on_the_wire(reply) for reply in replies] == [self.model.read(request) for request in batch]

    def look(self) -> None:
        """Do what a daemon does now and then: see what others have changed."""

    def look_before(self) -> None:
        """Do that before a batch too."""
        self.look()

    def compare(self, events: Iterable[Event]) -> None:
        for event in events:
            assert event.sold + event.held + event.available == event.capacity
            assert min(event.sold - event.sold_elsewhere, event.held, event.available, event.sold_elsewhere) >= 0
            assert on_the_wire(event_reply(event)) == self.model.event(event.id)

    def check_events(self) -> None:
        events = self.runner.run(self.ledger.events())
        assert [event.id for event in events] == list(self.model.events)
        self.compare(events)

    def some_requests(self, data: st.DataObject) -> list[LedgerRequest]:
        return data.draw(batches(self.model, self.past, self.clock.time))

    @rule(data=st.data())
    def requests_come(self, data: st.DataObject) -> None:
        self.decide(self.some_requests(data))

    @rule(data=st.data(), seconds=st.sampled_from([0, 0, 1, 70]))
    def lines_form_and_move(self, data: st.DataObject, seconds: int) -> None:
        self.clock.move(seconds)
        self.decide(data.draw(about_lines(self.model, self.past, self.clock.time)))

    @rule(seconds=st.sampled_from([0.0004, 0.999, 1, 2, 70, -1]), data=st.data())
    def time_passes_and_requests_come(self, seconds: float, data: st.DataObject) -> None:
        self.clock.move(seconds)
        self.decide(self.some_requests(data))

    @precondition(lambda self: self.model.next_expiry())
    @rule(seconds=st.sampled_from([0, 0, 0.0005, -0.0005, -0.001]), data=st.data())
    def requests_come_just_when_a_hold_runs_out(self, seconds: float, data: st.DataObject) -> None:
        holds = [row for row in self.model.bookings.values() if row["state"] == "held"]
        end, hold = min((row["expires"], row["id"]) for row in holds)
        self.clock.time = end
        self.clock.move(seconds)
        first: list[LedgerRequest] = [
            Confirm(hold),
            Confirm(hold, late=True),
            Extend(hold, 60),
            Release(hold),
            Cancel(hold),
        ]
        self.read([Show(hold), Bookings()])
        self.decide([data.draw(st.sampled_from(first)), *self.some_requests(data)[:4]])

    @rule(data=st.data())
    def somebody_reads(self, data: st.DataObject) -> None:
        self.read(data.draw(st.lists(readings(self.model), min_size=1, max_size=5)))

    @rule(data=st.data())
    def requests_come_while_nothing_can_be_committed(self, data: st.DataObject) -> None:
        """What needs no commit is answered as a commit without the passing of time would."""
        for request in self.some_requests(data):
            without = partial(self.ledger.without_commit, [deepcopy(request)])
            [answer] = self.runner.run(result_of(without, FULL)).replies
            if answer is not FULL:
                reply = on_the_wire(answer)
                assert reply in deepcopy(self.model).decide(request, self.now(), minted(reply))

    @rule(killed=st.booleans(), seconds=st.sampled_from([0, 1, 70]))
    def the_daemon_restarts_later(self, killed: bool, seconds: int) -> None:
        """One that is killed leaves its files as they are."""
        self.runner.run(self.storage.crash(self.ledger) if killed else self.ledger.close())
        self.clock.move(seconds)
        self.start()
        self.check_events()
        self.decide([])

    def teardown(self) -> None:
        try:
            self.read([Bookings()])
        finally:
            self.runner.run(self.ledger.close())
            self.runner.close()
            self.clean_up()


class PostgresHistories(Histories):
    postgres: Server

    def new_storage(self) -> Storage:
        self.database = self.postgres.new_database()
        return PostgresStorage(self.database, self.clock, HOLD_SECONDS_TOTAL_MAX)

    def clean_up(self) -> None:
        self.postgres.give_back(self.database)

    def look(self) -> None:
        assert isinstance(self.ledger, SharedLedger)
        self.runner.run(self.ledger.fetch_changes())


class TwoDaemons(PostgresHistories):
    """Each batch goes to one of two daemons, which has not seen what the other did since its own last one."""

    def start(self) -> None:
        super().start()
        self.other = self.runner.run(self.storage.open())

    def look_before(self) -> None:
        self.ledger, self.other = self.other, self.ledger

    @rule()
    def the_same_daemon_goes_on(self) -> None:
        self.ledger, self.other = self.other, self.ledger

    @rule(killed=st.booleans(), seconds=st.sampled_from([0, 1, 70]))
    def the_daemon_restarts_later(self, killed: bool, seconds: int) -> None:
        self.runner.run(self.other.close())
        super().the_daemon_restarts_later(killed, seconds)

    def teardown(self) -> None:
        self.runner.run(self.other.close())
        super().teardown()


def test_the_ledger_agrees_with_the_model_in_any_history() -> None:
    few = settings(max_examples=8, stateful_step_count=20)
    run_state_machine_as_test(Histories, settings=few)


def test_the_shared_ledger_agrees_with_the_model_in_any_history(postgres: Server) -> None:
    PostgresHistories.postgres = postgres
    few = settings(max_examples=4, stateful_step_count=15)
    run_state_machine_as_test(PostgresHistories, settings=few)


def test_two_daemons_agree_with_the_model_in_any_history(postgres: Server) -> None:
    TwoDaemons.postgres = postgres
    few = settings(max_examples=4, stateful_step_count=15)
    run_state_machine_as_test(TwoDaemons, settings=few)
