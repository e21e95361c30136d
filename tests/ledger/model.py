"""A model of the ledger in plain dictionaries, written from the promises."""

from collections.abc import Iterable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ticketd.model import Event, milliseconds, ticket_parts
from ticketd.rules.working_set import Adopt, LedgerRequest
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Amend, Book, Bookings, Cancel, Confirm, Create, Hold, Redeem, Release, Request, Show

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
        assert {ticket_parts(ticket)[0] for ticket in tickets} == {booking["id"]}
        assert not self.tickets.keys() & set(tickets)
        booking["tickets"] = tickets
        for id_ in tickets:
            self.tickets[id_] = {"id": id_, "event": booking["event"], "booking": booking["id"], "state": "valid"}

    def expire(self, now: datetime) -> None:
        for event in self.events:
            mine = [each for each in self.bookings.values() if (each["event"], each["state"]) == (event, "held")]
            if over := [each["id"] for each in mine if each["made"]["expires"] <= now]:
                self.change(*over, state="expired", what="expire")

    def next_expiry(self) -> int | None:
        holds = [each for each in self.bookings.values() if each["state"] == "held"]
        return min((milliseconds(each["made"]["expires"]) for each in holds), default=None)

    def decide(self, request: LedgerRequest, now: datetime, tickets: list[str]) -> list[Row]:
        """Return the replies that are right, mostly one. ``tickets`` are the ids that the ledger minted, if any."""
        match request:
            case Create():
                first = self.said.get(("create", request.id))
                if first is None:
                    return [self.create(str(request.id), request)]
                facts = (request.name, request.date, request.capacity, self.elsewhere(request))
                same = facts == (first["name"], first["date"], first["capacity"], first["sold"])
                return [first | {"replayed": True} if same else refused("event_exists")]
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
                if spent := self.spent(request.ticket):
                    return [spent]
                self.tickets[request.ticket] |= {"state": "redeemed", "redeemed_at": now}
                return [self.ticket(request.ticket)]
            case _:
                raise AssertionError(f"{request} is not for a commit")

    def read(self, request: Request) -> Row:
        """Return the reply that is right: what is committed, whatever the time."""
        if isinstance(request, Show):
            return self.show(request.id, request.kind)
        assert isinstance(request, Bookings)
        return self.page(request)

    def elsewhere(self, made: Create | Event) -> int:
        return 0 if made.available is UNSET else made.capacity - made.available

    def create(self, id_: str, made: Create | Event) -> Row:
        row = {"id": id_, "name": made.name, "date": made.date, "capacity": made.capacity, "version": 0}
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

    def show(self, id_: str, kind: str | UnsetType) -> Row:
        if id_ in self.events and kind in (UNSET, "event"):
            return self.event(id_)
        if id_ in self.bookings and kind in (UNSET, "booking"):
            return self.booking(id_) | self.redeemed(id_)
        if id_ in self.tickets and kind in (UNSET, "ticket"):
            return self.ticket(id_)
        return refused("not_found" if kind is UNSET else f"{kind}_not_found")

    def redeemed(self, id_: str) -> Row:
        used = [each for each in self.bookings[id_]["tickets"] if self.tickets[each]["state"] == "redeemed"]
        return {"redeemed": used, "redeemed_at": [self.tickets[each]["redeemed_at"] for each in used]} if used else {}

    def page(self, request: Bookings) -> Row:
        ids = sorted(id_ for id_ in self.bookings if request.after is UNSET or id_ > request.after)
        page = [self.booking(id_) | self.redeemed(id_) | self.past(id_) for id_ in ids[: request.limit]]
        for facts in page:
            del facts["reply"]
        return {"reply": "bookings", "bookings": page, **({"more": True} if len(ids) > request.limit else {})}

    def past(self, id_: str) -> Row:
        made = {name: value for name, value in self.bookings[id_]["made"].items() if value is not None}
        past = self.bookings[id_]["past"]
        return deepcopy(({"made": made} if past or "seconds" in made else {}) | ({"changes": past} if past else {}))


def on_the_wire(reply: Reply) -> Row:
    row: Row = msgspec.to_builtins(reply, builtin_types=(datetime,))
    row.pop("message", None)
    for facts in row.get("bookings", []):
        if changes := facts.get("changes"):
            facts["changes"] = [[*change[:3], list(change[3])] for change in changes]
    for facts in [row, *row.get("bookings", [])]:
        for name in ("cancelled", "redeemed", "redeemed_at"):
            if not facts.get(name, True):
                del facts[name]
    return row
