"""The ledger and a model of it in plain dictionaries, written from the promises, agree over any history."""

import asyncio
from collections.abc import Iterable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from msgspec import UNSET, UnsetType

from tests.faketime import Clock
from tests.ledgers import Ledger, PostgresLedger, SqliteLedger
from tests.postgres import Server
from ticketctl.importing import requests_of
from ticketd.books import Adopt, LedgerRequest
from ticketd.model import Event
from ticketd.protocol import (
    Amend,
    Book,
    Bookings,
    BookingsReply,
    Cancel,
    Confirm,
    Create,
    ErrorReply,
    Hold,
    Redeem,
    Release,
    Reply,
    Restore,
    Show,
    Tickets,
    TicketsReply,
    encode,
)
from ticketd.rules import event_reply
from ticketd.stores.base import SharedStore

Row = dict[str, Any]
DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)
CROSSED = {
    "held": "bad_request",
    "confirmed": "already_confirmed",
    "released": "already_released",
    "expired": "hold_expired",
    "cancelled": "already_cancelled",
}


def refused(code: str, **facts: object) -> Row:
    return {"reply": "error", "code": code, **facts}


class Model:
    """Counts nothing twice: what is held, sold and available follows from the bookings and tickets there are."""

    def __init__(self) -> None:
        self.events: dict[str, Row] = {}
        self.bookings: dict[str, Row] = {}
        self.tickets: dict[str, Row] = {}
        self.said: dict[Any, Row] = {}
        self.changed: set[str] = set()

    def event(self, id_: str) -> Row:
        row = self.events[id_]
        held = sum(
            each["quantity"] for each in self.bookings.values() if (each["event"], each["state"]) == (id_, "held")
        )
        here = sum(each["event"] == id_ and each["state"] != "cancelled" for each in self.tickets.values())
        sold = row["elsewhere"] + here
        shown = {name: row[name] for name in ("id", "name", "date", "capacity", "version")}
        return {"reply": "event", **shown, "held": held, "sold": sold, "available": row["capacity"] - held - sold}

    def left(self, id_: str) -> Row:
        event = self.event(id_)
        return {"available": event["available"], "version": event["version"]}

    def booking(self, id_: str) -> Row:
        row = {name: value for name, value in self.bookings[id_].items() if name not in ("made", "past")}
        if row["state"] == "held":
            row["expires"] = self.bookings[id_]["made"]["expires"]
        if gone := [ticket for ticket in row["tickets"] if self.tickets[ticket]["state"] == "cancelled"]:
            row["cancelled"] = gone
        return {"reply": "booking", **deepcopy(row)}

    def ticket(self, id_: str) -> Row:
        return {"reply": "ticket", **self.tickets[id_]}

    def change(self, *ids: str, state: str, what: str, tickets: Iterable[str] = ()) -> None:
        """Bring bookings of one event into a state, which is one change of it."""
        event = self.bookings[ids[0]]["event"]
        for id_ in ids:
            self.bookings[id_]["state"] = state
        self.events[event]["version"] += 1
        self.changed.add(event)
        left = self.left(event)
        for id_ in ids:
            row = self.bookings[id_]
            row |= left
            if what == "make":
                row["made"] |= left
            else:
                gone = [ticket for ticket in row["tickets"] if ticket in tickets]
                row["past"].append([what, left["available"], left["version"], gone])

    def issue(self, booking: Row, tickets: list[str]) -> None:
        assert len(tickets) == len(set(tickets)) == booking["quantity"]
        assert not self.tickets.keys() & set(tickets)
        booking["tickets"] = tickets
        for id_ in tickets:
            self.tickets[id_] = {"id": id_, "event": booking["event"], "booking": booking["id"], "state": "valid"}

    def expire(self, now: datetime) -> None:
        for event in self.events:
            mine = [each for each in self.bookings.values() if (each["event"], each["state"]) == (event, "held")]
            if over := [each["id"] for each in mine if each["made"]["expires"] <= now]:
                self.change(*over, state="expired", what="expire")

    def next_expiry(self) -> datetime | None:
        holds = [each for each in self.bookings.values() if each["state"] == "held"]
        return min((each["made"]["expires"] for each in holds), default=None)

    def decide(self, request: LedgerRequest, now: datetime, tickets: list[str]) -> list[Row]:
        """Return the replies that are right, mostly one. ``tickets`` are the ids that the ledger minted, if any."""
        match request:
            case Create():
                first = self.said.get(("create", request.id))
                if first is None:
                    return [self.create(str(request.id), request)]
                facts = (request.name, request.date, request.capacity, self.elsewhere(request))
                same = facts == (first["name"], first["date"], first["capacity"], first["sold"])
                return [
                    first | {"version": request.version or 0, "replayed": True} if same else refused("event_exists")
                ]
            case Adopt(event=event):
                if event.id not in self.events:
                    self.create(event.id, event)
                return [self.event(event.id)]
            case Amend():
                return [self.amend(request)]
            case Book() | Hold():
                return [self.take(request, getattr(request, "seconds", None), now, tickets)]
            case Confirm() | Release() | Cancel():
                booking = self.bookings.get(request.booking)
                if booking is None:
                    return [refused("booking_not_found")]
                crossed = refused(CROSSED[booking["state"]], **self.left(booking["event"]))
                if isinstance(request, Cancel):
                    return self.cancel(booking, request) if booking["tickets"] else [crossed]
                what = "confirm" if isinstance(request, Confirm) else "release"
                state = {"confirm": "confirmed", "release": "released"}[what]
                if booking["state"] == state and (what, booking["id"]) in self.said:
                    return [self.said[what, booking["id"]] | {"replayed": True}]
                if booking["state"] != "held":
                    return [crossed]
                if what == "confirm":
                    self.issue(booking, tickets)
                self.change(booking["id"], state=state, what=what)
                self.said[what, booking["id"]] = self.booking(booking["id"])
                return [self.booking(booking["id"])]
            case Redeem():
                if request.ticket not in self.tickets:
                    return [refused("ticket_not_found")]
                at = now if request.at is UNSET else request.at
                if self.tickets[request.ticket].get("redeemed_at", now) == request.at:
                    return [self.ticket(request.ticket) | {"replayed": True}]
                if spent := self.spent(request.ticket):
                    return [spent]
                self.tickets[request.ticket] |= {"state": "redeemed", "redeemed_at": at}
                return [self.ticket(request.ticket)]
            case Show():
                return [self.show(request.id)]
            case Bookings() | Tickets():
                return [self.page(request)]
            case Restore():
                raise AssertionError("the ledger moves, and the model stays")

    def elsewhere(self, made: Create | Event) -> int:
        return 0 if made.available is UNSET else made.capacity - made.available

    def create(self, id_: str, made: Create | Event) -> Row:
        row = {"id": id_, "name": made.name, "date": made.date, "capacity": made.capacity, "version": made.version or 0}
        self.events[id_] = row | {"elsewhere": self.elsewhere(made)}
        self.changed.add(id_)
        self.said["create", id_] = self.event(id_)
        return self.event(id_)

    def amend(self, request: Amend) -> Row:
        row = self.events.get(request.event)
        if row is None:
            return refused("event_not_found")
        given = {name: getattr(request, name) for name in ("name", "date", "capacity")}
        new = {name: value for name, value in given.items() if value is not UNSET and value != row[name]}
        now = self.event(request.event)
        if not new:
            return now | {"replayed": True}
        if new.get("capacity", row["capacity"]) < now["sold"] + now["held"]:
            return refused("capacity_below_sold", **self.left(request.event))
        row |= new
        row["version"] += 1
        self.changed.add(request.event)
        return self.event(request.event)

    def take(self, request: Book | Hold, seconds: int | None, now: datetime, tickets: list[str]) -> Row:
        id_ = str(request.booking)
        if known := self.bookings.get(id_):
            facts = (known["event"], known["quantity"], known["made"]["seconds"])
            if facts != (request.event, request.quantity, seconds):
                return refused("booking_conflict")
            return self.said["make", id_] | {"replayed": True}
        if request.event not in self.events:
            return refused("event_not_found")
        if request.quantity > self.event(request.event)["available"]:
            return refused("sold_out", **self.left(request.event))
        row: Row = {"id": id_, "event": request.event, "quantity": request.quantity, "state": "", "tickets": []}
        expires = seconds and now + timedelta(seconds=seconds)
        self.bookings[id_] = row | {"made": {"seconds": seconds, "expires": expires}, "past": []}
        if seconds is None:
            self.issue(self.bookings[id_], tickets)
        self.change(id_, state="confirmed" if seconds is None else "held", what="make")
        self.said["make", id_] = self.booking(id_)
        return self.booking(id_)

    def cancel(self, booking: Row, request: Cancel) -> list[Row]:
        id_ = booking["id"]
        there = {ticket for ticket in booking["tickets"] if self.tickets[ticket]["state"] != "cancelled"}
        wanted = there if request.tickets is UNSET else set(request.tickets)
        # Without tickets, once all are gone, the cancel that took the last of them.
        if said := self.said.get(("cancel", id_, frozenset(wanted))):
            return [said | {"replayed": True}]
        wrong = [refused("ticket_not_found") for _ in wanted - set(booking["tickets"])]
        wrong += [
            spent | self.left(booking["event"])
            for ticket in wanted & set(booking["tickets"])
            if (spent := self.spent(ticket))
        ]
        if wrong:
            return wrong
        for ticket in wanted:
            self.tickets[ticket]["state"] = "cancelled"
        self.change(id_, state="cancelled" if wanted == there else "confirmed", what="cancel", tickets=wanted)
        reply = self.said["cancel", id_, frozenset(wanted)] = self.booking(id_)
        if wanted == there:
            self.said["cancel", id_, frozenset()] = reply
        return [reply]

    def spent(self, id_: str) -> Row | None:
        ticket = self.tickets[id_]
        if ticket["state"] == "redeemed":
            return refused("already_redeemed", redeemed_at=ticket["redeemed_at"])
        return refused("already_cancelled") if ticket["state"] == "cancelled" else None

    def show(self, id_: str) -> Row:
        if id_ in self.events:
            return self.event(id_)
        if id_ in self.bookings:
            used = [each for each in self.bookings[id_]["tickets"] if self.tickets[each]["state"] == "redeemed"]
            return self.booking(id_) | ({"redeemed": used} if used else {})
        return self.ticket(id_) if id_ in self.tickets else refused("not_found")

    def page(self, request: Bookings | Tickets) -> Row:
        noun, rows, show = ("tickets", self.tickets, self.ticket)
        if isinstance(request, Bookings):
            noun, rows, show = ("bookings", self.bookings, self.booking)
        ids = sorted(id_ for id_ in rows if request.after is UNSET or id_ > request.after)[: request.limit]
        pages = [{name: value for name, value in show(id_).items() if name != "reply"} for id_ in ids]
        if isinstance(request, Bookings):
            pages = [facts | self.past(facts["id"]) for facts in pages]
        return {"reply": noun, noun: pages}

    def past(self, id_: str) -> Row:
        made = {name: value for name, value in self.bookings[id_]["made"].items() if value is not None}
        past = self.bookings[id_]["past"]
        return deepcopy(({"made": made} if past or "seconds" in made else {}) | ({"changes": past} if past else {}))

    def move(self) -> None:
        """Come to be the model of another ledger, into which this one was moved."""
        for id_, row in self.events.items():
            row["version"] += sum((each["event"], each["state"]) == (id_, "held") for each in self.bookings.values())
            # An event that was amended does not know any more how it was created.
            self.said["create", id_] |= {name: row[name] for name in ("name", "date", "capacity")}
            self.said["create", id_]["available"] = row["capacity"] - row["elsewhere"]


def on_the_wire(reply: Reply) -> Row:
    row: Row = msgspec.to_builtins(reply, builtin_types=(datetime,))
    row.pop("message", None)
    for facts in row.get("bookings", []):
        if changes := facts.get("changes"):
            facts["changes"] = [[*change[:3], list(change[3])] for change in changes]
    for facts in [row, *row.get("bookings", [])]:
        for name in ("cancelled", "redeemed"):
            if not facts.get(name, True):
                del facts[name]
    return row


def requests(model: Model, past: list[LedgerRequest]) -> st.SearchStrategy[LedgerRequest]:
    """Return requests that make sense now and some that do not, among them ``past`` ones, sent again."""
    event = st.sampled_from(["e1", "e2", "e3"])
    fresh = st.sampled_from([f"b{len(model.bookings) + 1}", f"b{len(model.bookings) + 2}"])
    booking = st.sampled_from([*model.bookings, f"b{len(model.bookings) + 1}"])
    ticket = st.sampled_from([*model.tickets, f"t{len(model.tickets) + 1}"])
    name, date = st.sampled_from(["A", "B"]), st.sampled_from([DATE, DATE.replace(day=12)])
    capacity, quantity, seconds = st.sampled_from([6, 9, 12]), st.integers(1, 4), st.sampled_from([1, 2, 60])
    kinds: list[st.SearchStrategy[LedgerRequest]] = [
        st.builds(Book, event, quantity, fresh | booking),
        st.builds(Hold, event, quantity, seconds, fresh),
        st.builds(Hold, event, quantity, seconds, fresh | booking),
        st.builds(Confirm, fresh | booking),
        st.builds(Confirm, booking),
        st.builds(Release, booking),
        st.builds(Cancel, booking),
        st.builds(Redeem, ticket),
        st.builds(Redeem, ticket, st.sampled_from([DATE, DATE.replace(day=12)])),
        st.builds(Show, event | booking | ticket),
        st.builds(Amend, event, capacity=st.integers(1, 12)),
        st.builds(Amend, event, name=name, date=date),
        st.builds(Create, name, date, capacity, event, st.just(UNSET) | st.integers(0, 6), st.sampled_from([UNSET, 7])),
        st.builds(Event, event, name, date, st.just(9), st.just(5), st.just(0), st.just(4), st.just(0), st.just(4)).map(
            Adopt
        ),
    ]
    if past:
        kinds += [st.sampled_from(past), st.just(past[0])]
    for row in model.bookings.values():
        if row["tickets"]:
            # Some of its tickets, in one go or in several, and now and then one of another booking.
            some = st.lists(st.sampled_from([*row["tickets"] * 2, "t1"]), min_size=1, max_size=3)
            kinds.append(st.builds(Cancel, st.just(row["id"]), some))
    return st.one_of(kinds)


class Histories(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folders: list[TemporaryDirectory[str]] = []
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.new_id = (f"t{number}" for number in count(1)).__next__
        self.model = Model()
        self.past: list[LedgerRequest] = []
        self.ledger = self.new_ledger()
        self.start()
        self.decide([Create("A", DATE, 6, "e1"), Adopt(Event("e2", "B", DATE, 9, 5, 0, 4, 0, 4))])

    def new_ledger(self) -> Ledger:
        self.folders.append(TemporaryDirectory())
        return SqliteLedger(Path(self.folders[-1].name) / "ledger", self.clock)

    def start(self) -> None:
        self.store = self.runner.run(self.ledger.open(self.new_id))

    def decide(self, batch: list[LedgerRequest]) -> None:
        """Let the ledger and the model decide, and compare all there is to see."""
        self.past += [request for request in batch if not isinstance(request, Bookings | Tickets)]
        self.look()
        committed = self.runner.run(self.store.transact(deepcopy(batch)))
        self.look()
        now = self.clock.time.replace(microsecond=self.clock.time.microsecond // 1_000 * 1_000)
        self.model.changed.clear()
        self.model.expire(now)
        for request, reply in zip(batch, committed.replies, strict=True):
            assert on_the_wire(reply) in self.model.decide(request, now, getattr(reply, "tickets", []))
        assert self.store.next_expiry == self.model.next_expiry()
        assert {event.id for event in committed.events} >= set(self.model.changed)
        self.compare(committed.events)
        self.see_that_events_agree()

    def look(self) -> None:
        """Do what a daemon does now and then."""

    def compare(self, events: list[Event]) -> None:
        for event in events:
            assert event.sold + event.held + event.available == event.capacity
            assert min(event.sold - event.sold_elsewhere, event.held, event.available, event.sold_elsewhere) >= 0
            assert on_the_wire(event_reply(event)) == self.model.event(event.id)

    def see_that_events_agree(self) -> None:
        events = self.runner.run(self.store.events())
        assert [event.id for event in events] == list(self.model.events)
        self.compare(events)

    def some_requests(self, data: st.DataObject) -> list[LedgerRequest]:
        return data.draw(st.lists(requests(self.model, self.past), min_size=1, max_size=5))

    @rule(data=st.data())
    def requests_come(self, data: st.DataObject) -> None:
        self.decide(self.some_requests(data))

    @rule(seconds=st.sampled_from([0.0004, 0.999, 1, 2, 70, -1]), data=st.data())
    def time_passes_and_requests_come(self, seconds: float, data: st.DataObject) -> None:
        self.clock.move(seconds)
        self.decide(self.some_requests(data))

    @precondition(lambda self: self.model.next_expiry())
    @rule(seconds=st.sampled_from([0, 0, 0.0005, -0.0005, -0.001]), data=st.data())
    def requests_come_just_when_a_hold_runs_out(self, seconds: float, data: st.DataObject) -> None:
        holds = [row for row in self.model.bookings.values() if row["state"] == "held"]
        end, hold = min((row["made"]["expires"], row["id"]) for row in holds)
        self.clock.time = end
        self.clock.move(seconds)
        first: list[LedgerRequest] = [Confirm(hold), Release(hold), Cancel(hold), Show(hold), Bookings()]
        self.decide([data.draw(st.sampled_from(first)), *self.some_requests(data)[:4]])

    @rule(after=st.just(UNSET) | st.sampled_from(["b2", "t12", "t3", "x"]), limit=st.sampled_from([1, 3, 1000]))
    def bookings_and_tickets_are_read(self, after: str | UnsetType, limit: int) -> None:
        self.decide([Bookings(after, limit), Tickets(after, limit)])

    @rule(killed=st.booleans(), seconds=st.sampled_from([0, 1, 70]))
    def the_daemon_restarts_later(self, killed: bool, seconds: int) -> None:
        """One that is killed leaves its files as they are."""
        self.runner.run(self.ledger.crash(self.store) if killed else self.store.close())
        self.clock.move(seconds)
        self.start()
        self.see_that_events_agree()
        self.decide([])

    @rule(done_before=st.integers(0, 9))
    def the_ledger_moves(self, done_before: int) -> None:
        """The import breaks off, and is run again."""
        self.decide([])
        requests = list(self.export())
        self.runner.run(self.store.close())
        self.ledger = self.new_ledger()
        self.start()
        for request in [*requests[: len(requests) * done_before // 10], *requests]:
            (reply,) = self.runner.run(self.store.transact([deepcopy(request)])).replies
            assert not isinstance(reply, ErrorReply) or (isinstance(request, Create) and reply.code == "event_exists")
        self.model.move()
        self.see_that_events_agree()
        self.decide([Bookings(), Tickets()])

    def export(self) -> Iterator[LedgerRequest]:
        """Yield what ticketctl sends to import what it exported."""
        bookings, tickets = self.runner.run(self.store.transact([Bookings(), Tickets()])).replies
        assert isinstance(bookings, BookingsReply)
        assert isinstance(tickets, TicketsReply)
        held: dict[str, int] = {}
        for facts in [*map(event_reply, self.runner.run(self.store.events())), *bookings.bookings, *tickets.tickets]:
            for request in requests_of(msgspec.json.decode(encode(facts)), held):
                assert isinstance(request, Create | Restore | Redeem)
                yield request

    def teardown(self) -> None:
        try:
            self.decide([Bookings(), Tickets()])
        finally:
            self.runner.run(self.store.close())
            self.runner.close()
            for folder in self.folders:
                folder.cleanup()


class SharedHistories(Histories):
    postgres: Server

    def __init__(self) -> None:
        super().__init__()
        self.databases: list[str] = []

    def new_ledger(self) -> Ledger:
        self.databases.append(self.postgres.new_database())
        return PostgresLedger(self.databases[-1], self.clock)

    def look(self) -> None:
        assert isinstance(self.store, SharedStore)
        self.runner.run(self.store.news())

    def teardown(self) -> None:
        super().teardown()
        for database in self.databases:
            self.postgres.drop(database)


def test_the_ledger_tells_the_same_story_as_the_model_whatever_happens_in_whatever_order() -> None:
    few = settings(deadline=None, max_examples=50, stateful_step_count=25)
    run_state_machine_as_test(Histories, settings=few)


def test_the_ledger_that_many_share_tells_the_same_story(postgres: Server) -> None:
    SharedHistories.postgres = postgres
    few = settings(deadline=None, max_examples=20, stateful_step_count=20)
    run_state_machine_as_test(SharedHistories, settings=few)
