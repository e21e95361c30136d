"""What a ledger must show, from plain dictionaries: how many tickets are where is counted anew each time."""

from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ticketd.model import milliseconds
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Bookings, Request, Show

Row = dict[str, Any]
# What becomes of a ticket for good, so that somebody else may have its place.
ENDS = ("cancelled", "reissued")
# Why a booking in this state cannot be changed so.
CROSSED = {
    "waiting": "bad_request",
    "held": "bad_request",
    "confirmed": "already_confirmed",
    "released": "already_released",
    "expired": "hold_expired",
    "cancelled": "already_cancelled",
}


def refused(code: str, **facts: object) -> Row:
    return {"reply": "error", "code": code, **facts}


def without_nothing(row: Row) -> Row:
    """Leave out what replies leave out: they say nothing of what is not there."""
    return {name: value for name, value in row.items() if value is not None and value is not False}


class Facts:
    """Counts nothing twice: what is held, sold and available follows from the bookings and tickets there are."""

    def __init__(self) -> None:
        self.events: dict[str, Row] = {}
        self.bookings: dict[str, Row] = {}
        self.tickets: dict[str, Row] = {}
        # Events that were deleted, whether or not there is one with the same id again.
        self.removed: set[str] = set()
        # Whose request is decided, if that is known.
        self.actor: str | None = None
        # The replies that must come again.
        self.said: dict[Any, Row] = {}

    def named(self, change: Row) -> Row:
        """Return a change with the name of who asked for it, if that is known."""
        return change | without_nothing({"by": self.actor})

    def of(self, event: str) -> list[Row]:
        """Return the bookings of an event."""
        return [row for row in self.bookings.values() if row["event"] == event]

    def line(self, event: str) -> list[Row]:
        """Return the bookings that wait for an event, in the order in which they came."""
        return [row for row in self.of(event) if row["state"] == "waiting"]

    def held(self, bookings: list[Row], state: str = "held") -> int:
        return sum(row["quantity"] for row in bookings if row["state"] == state)

    def sold(self, bookings: list[Row]) -> int:
        return sum(self.tickets[ticket]["end"] not in ENDS for row in bookings for ticket in row["tickets"])

    def owned(self, event: str, buyer: str) -> int:
        """Return how many tickets a buyer has of an event, or waits for."""
        own = [row for row in self.of(event) if row["buyer"] == buyer]
        return self.held(own, "waiting") + self.held(own) + self.sold(own)

    def event(self, id_: str) -> Row:
        row = self.events[id_]
        held, sold = self.held(self.of(id_)), row["elsewhere"] + self.sold(self.of(id_))
        left = {"held": held, "sold": sold, "available": row["capacity"] - held - sold, "version": row["version"]}
        line = {"waiting": waiting} if (waiting := len(self.line(id_))) else {}
        return {"reply": "event", "id": id_, **without_nothing(row["terms"]), **left, **line}

    def left(self, id_: str) -> Row:
        event = self.event(id_)
        return {"available": event["available"], "version": event["version"]}

    def booking(self, id_: str) -> Row:
        names = ("id", "event", "quantity", "state", "tickets", "available", "version", "booked_at", "buyer")
        row = {name: self.bookings[id_][name] for name in names}
        if row["state"] == "held":
            row["expires"] = self.bookings[id_]["expires"]
        if gone := [ticket for ticket in row["tickets"] if self.tickets[ticket]["end"] == "cancelled"]:
            row["cancelled"] = gone
        return {"reply": "booking", **deepcopy(without_nothing(row))}

    def with_redeemed(self, id_: str) -> Row:
        used = [ticket for ticket in self.bookings[id_]["tickets"] if self.redeemed_at(ticket)]
        times = [self.redeemed_at(ticket) for ticket in used]
        return self.booking(id_) | ({"redeemed": used, "redeemed_at": times} if used else {})

    def in_order(self, id_: str, tickets: list[str]) -> list[str]:
        """Return tickets of a booking in the order of their places. A new ticket has that of the one it replaces."""

        def place(ticket: str) -> int:
            while instead := self.tickets[ticket]["instead"]:
                ticket = instead
            return list(self.bookings[id_]["tickets"]).index(ticket)

        return sorted(tickets, key=place)

    def with_past(self, id_: str) -> Row:
        past = self.bookings[id_]["past"]
        by = without_nothing({"by": self.bookings[id_]["by"]})
        shown = self.with_redeemed(id_)
        names = [self.tickets[ticket]["history"][-1].get("by") for ticket in shown.get("redeemed", ())]
        redeemed_by = {"redeemed_by": names} if any(names) else {}
        return shown | by | redeemed_by | self.position(id_) | deepcopy({"changes": past} if past else {})

    def position(self, id_: str) -> Row:
        """Return where a booking stands that is waiting."""
        line = [row["id"] for row in self.line(self.bookings[id_]["event"])]
        return {"position": line.index(id_) + 1} if id_ in line else {}

    def redeemed_at(self, id_: str) -> datetime | None:
        history = self.tickets[id_]["history"]
        return history[-1]["at"] if history and history[-1]["what"] == "redeem" else None

    def ticket(self, id_: str, *, with_names: bool = False) -> Row:
        row = self.tickets[id_]
        # Only show tells who did it.
        past = [{name: each[name] for name in each if name != "by" or with_names} for each in row["history"]]
        at = self.redeemed_at(id_)
        facts = {
            "id": id_,
            "event": self.bookings[row["booking"]]["event"],
            "booking": row["booking"],
            "state": "redeemed" if at else row["end"] or "valid",
            "redeemed_at": at,
            "history": past if len(past) > 1 else None,
            "by": past[-1].get("by") if at else None,
        }
        return {"reply": "ticket", **without_nothing(facts)}

    def spent(self, id_: str) -> Row | None:
        """Return why a ticket is not valid."""
        if at := self.redeemed_at(id_):
            return refused("already_redeemed", redeemed_at=at)
        end = self.tickets[id_]["end"]
        return refused(f"already_{end}") if end else None

    def next_expiry(self) -> int | None:
        holds = [each for each in self.bookings.values() if each["state"] == "held"]
        return min((milliseconds(each["expires"]) for each in holds), default=None)

    # What only reads

    def read(self, request: Request) -> Row:
        """Return the reply that is right: what is committed, whatever the time."""
        if isinstance(request, Show):
            return self.show(request.id, request.kind)
        assert isinstance(request, Bookings)
        if request.event is not UNSET and request.event not in self.events:
            return refused("event_not_found")
        return self.page(request)

    def show(self, id_: str, kind: str | UnsetType) -> Row:
        if id_ in self.events and kind in (UNSET, "event"):
            return self.event(id_)
        if id_ in self.bookings and kind in (UNSET, "booking"):
            return self.with_past(id_)
        if id_ in self.tickets and kind in (UNSET, "ticket"):
            return self.ticket(id_, with_names=True)
        return refused("not_found" if kind is UNSET else f"{kind}_not_found")

    def page(self, request: Bookings) -> Row:
        wanted = [
            id_
            for id_, row in sorted(self.bookings.items())
            if request.after is UNSET or id_ > request.after
            if request.event in (UNSET, row["event"])
            if request.buyer in (UNSET, row["buyer"])
        ]
        shown = [self.with_past(id_) | self.made(id_) for id_ in wanted[: request.limit]]
        for facts in shown:
            del facts["reply"]
        more = {"more": True, "last": shown[-1]["id"]} if len(wanted) > request.limit else {}
        return {"reply": "bookings", "bookings": shown, **more}

    def made(self, id_: str) -> Row:
        """Return a booking as it was made, if its past does not show that already."""
        row = self.bookings[id_]
        return {"made": without_nothing(row["made"])} if row["past"] or row["made"]["seconds"] else {}


def on_the_wire(reply: Reply) -> Row:
    row: Row = msgspec.to_builtins(reply, builtin_types=(datetime,))
    row.pop("message", None)
    for facts in [row, *row.get("bookings", [])]:
        for name in ("cancelled", "redeemed", "changes"):
            facts[name] = list(facts.get(name, ()))
            if not facts[name]:
                del facts[name]
    return row


def minted(reply: Row) -> Sequence[str]:
    """Return the ids of the tickets that a reply may have made."""
    return [reply["id"]] if reply["reply"] == "ticket" else reply.get("tickets", [])
