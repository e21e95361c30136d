"""A model of the ledger in plain dictionaries, written from the promises: what each request does and is told."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import UNSET

from tests.ledger.facts import CROSSED, Row, refused
from tests.ledger.line import WaitingList
from ticketd.model import Event, milliseconds, ticket_parts, time_of
from ticketd.rules.working_set import Adopt, LedgerRequest
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Release,
    Wait,
)

DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)
# How long a hold may last in all, in seconds.
HOLD_SECONDS_TOTAL_MAX = 90


def kept(time: Any) -> datetime | None:
    """Return a moment as a ledger keeps it: in whole milliseconds, rounded up."""
    if isinstance(time, datetime):
        time = milliseconds(time)
    return time_of(time) if isinstance(time, int) else None


class Model(WaitingList):
    """What a ledger does, one request after the other."""

    def __init__(self) -> None:
        super().__init__()
        # The events that the last batch deleted.
        self.deleted: set[str] = set()

    def decide(
        self, request: LedgerRequest, now: datetime, tickets: Sequence[str], actor: str | None = None
    ) -> list[Row]:
        """Return the replies that are right, mostly one. ``tickets`` are the ids that the ledger minted, if any."""
        self.actor = actor
        replies = self.answer(request, now, tickets)
        self.serve(now)
        joins = isinstance(request, Wait) and replies[0]["reply"] == "booking" and "replayed" not in replies[0]
        return [self.joined(replies[0]["id"])] if joins else replies

    def answer(self, request: LedgerRequest, now: datetime, tickets: Sequence[str]) -> list[Row]:
        """Decide a request, before anything of it is offered to those who wait."""
        match request:
            case Create():
                return [self.create(request)]
            case Adopt(event=event):
                return [self.adopt(event)]
            case Amend():
                return [self.amend(request)]
            case Delete():
                return [self.delete(request)]
            case Book() | Hold() | Wait():
                return [self.take(request, getattr(request, "seconds", None), now, tickets)]
            case Reissue():
                return [self.reissue(request, now, tickets)]
            case Redeem():
                return self.redeem(request, now)
            case Annul():
                return self.annul(request, now)
            case Confirm() | Release() | Cancel() | Extend():
                booking = self.bookings.get(request.booking)
                return self.change(booking, request, now, tickets) if booking else [refused("booking_not_found")]
            case _:
                raise AssertionError(f"{request} is not for a commit")

    # Events

    def put(self, id_: str, made: Create | Event) -> Row:
        elsewhere = 0 if made.available is UNSET else made.capacity - made.available
        row = {"elsewhere": elsewhere, "capacity": made.capacity, "version": 0, "touched": elsewhere > 0}
        self.events[id_] = row | {"terms": terms_of(made)}
        self.changed.add(id_)
        self.said["create", id_] = self.event(id_)
        return self.event(id_)

    def create(self, request: Create) -> Row:
        id_ = str(request.id)
        if id_ not in self.events:
            return self.put(id_, request)
        other = Model()
        same = other.put(id_, request) == self.said["create", id_]
        return self.said["create", id_] | {"replayed": True} if same else refused("event_exists")

    def adopt(self, event: Event) -> Row:
        if event.id in self.events:
            return self.event(event.id)
        return Model().put(event.id, event) if event.id in self.removed else self.put(event.id, event)

    def amend(self, request: Amend) -> Row:
        row = self.events.get(request.event)
        if row is None:
            return refused("event_not_found")
        given = {name: kept(value) if name in ("opens", "closes") else value for name, value in request.given.items()}
        after, now = row["terms"] | given, self.event(request.event)
        if after == row["terms"]:
            return now | {"replayed": True}
        if after["opens"] and after["closes"] and after["closes"] <= after["opens"]:
            return refused("bad_request")
        if after["capacity"] < now["sold"] + now["held"]:
            return refused("capacity_below_sold", **self.left(request.event))
        row |= {"terms": after, "capacity": after["capacity"], "version": row["version"] + 1}
        self.changed.add(request.event)
        return self.event(request.event)

    def delete(self, request: Delete) -> Row:
        row = self.events.get(request.event)
        if row is None:
            return refused("event_not_found")
        if row["touched"]:
            return refused("event_in_use", **self.left(request.event))
        gone = self.event(request.event)
        del self.events[request.event], self.said["create", request.event]
        self.changed.discard(request.event)
        self.removed.add(request.event)
        self.deleted.add(request.event)
        return gone

    # Bookings

    def take(self, request: Book | Hold | Wait, seconds: int | None, now: datetime, tickets: Sequence[str]) -> Row:
        id_, event = str(request.booking), self.events.get(request.event)
        buyer, waits = None if request.buyer is UNSET else request.buyer, isinstance(request, Wait)
        if known := self.bookings.get(id_):
            facts = (known["event"], known["quantity"], known["made"]["seconds"], known["buyer"], known["waited"])
            if facts != (request.event, request.quantity, seconds, buyer, waits):
                return refused("booking_conflict")
            return self.said["make", id_] | {"replayed": True}
        if event is None:
            return refused("event_not_found")
        terms, left = event["terms"], self.left(request.event)
        if not self.is_on_sale(request.event, now):
            later = {"opens": terms["opens"]} if terms["opens"] and terms["opens"] > now else {}
            return refused("not_on_sale", **left, **later)
        if terms["per_buyer"] and buyer is None:
            return refused("bad_request")
        if request.quantity > (event["capacity"] if waits else left["available"]):
            return refused("sold_out", **left)
        if over := self.over_limit(request.event, buyer, request.quantity):
            return over
        expires = now + timedelta(seconds=seconds) if seconds and not waits else None
        row: Row = {"id": id_, "event": request.event, "quantity": request.quantity, "state": "", "tickets": []}
        row |= {"booked_at": now, "buyer": buyer, "by": self.actor, "expires": expires, "past": []}
        row |= {"waited": waits, "held_since": now}
        self.bookings[id_] = row | {"made": {"seconds": seconds, "expires": expires}}
        if seconds is None:
            self.issue(self.bookings[id_], tickets)
        event["touched"] = True
        self.turn(id_, state="waiting" if waits else "held" if seconds else "confirmed")
        self.said["make", id_] = self.booking(id_)
        return self.booking(id_)

    def over_limit(self, event: str, buyer: str | None, quantity: int) -> Row | None:
        limit = self.events[event]["terms"]["per_buyer"]
        if limit is None or buyer is None or self.owned(event, buyer) + quantity <= limit:
            return None
        return refused("buyer_limit", **self.left(event), left=max(0, limit - self.owned(event, buyer)))

    def issue(self, booking: Row, tickets: Sequence[str]) -> None:
        assert len(tickets) == len(set(tickets)) == booking["quantity"]
        booking["tickets"] = [self.new_ticket(booking["id"], ticket) for ticket in tickets]

    def new_ticket(self, booking: str, id_: str) -> str:
        assert ticket_parts(id_)[0] == booking
        assert id_ not in self.tickets
        self.tickets[id_] = {"booking": booking, "end": None, "history": [], "instead": None}
        return id_

    def expire(self, now: datetime) -> None:
        self.actor = None
        for event in self.events:
            if over := [row["id"] for row in self.of(event) if row["state"] == "held" and row["expires"] <= now]:
                self.turn(*over, state="expired", what="expire", at=now)

    def change(
        self, row: Row, request: Confirm | Release | Cancel | Extend, now: datetime, tickets: Sequence[str]
    ) -> list[Row]:
        id_, event = row["id"], row["event"]
        crossed = refused(CROSSED[row["state"]], **self.left(event))
        match request:
            case Cancel():
                return self.cancel(row, request, now) if row["tickets"] else [crossed]
            case Extend(seconds=seconds):
                if row["state"] != "held":
                    return [crossed]
                ceiling = row["held_since"] + timedelta(seconds=HOLD_SECONDS_TOTAL_MAX)
                expires = min(now + timedelta(seconds=seconds), ceiling)
                if expires <= row["expires"]:
                    return [self.booking(id_) | {"replayed": True}]
                row["expires"] = expires
                self.turn(id_, state="held", what="extend", at=now, expires=expires)
                return [self.booking(id_)]
        what, state = ("confirm", "confirmed") if isinstance(request, Confirm) else ("release", "released")
        if row["state"] == "released" == state:
            return [self.booking(id_) | {"replayed": True}]
        if row["state"] == state and (what, id_) in self.said:
            return [self.said[what, id_] | {"replayed": True}]
        if row["state"] == "waiting" and isinstance(request, Release):
            what = "leave"
        if isinstance(request, Confirm) and request.late and row["state"] == "expired":
            if row["quantity"] > self.left(event)["available"]:
                return [crossed]
            if over := self.over_limit(event, row["buyer"], row["quantity"]):
                return [over]
        elif row["state"] != "held" and what != "leave":
            return [crossed]
        if what == "confirm":
            self.issue(row, tickets)
        self.turn(id_, state=state, what=what, at=now)
        self.said[what, id_] = self.booking(id_)
        return [self.booking(id_)]

    # Tickets

    def cancel(self, row: Row, request: Cancel, now: datetime) -> list[Row]:
        id_ = row["id"]
        there = {ticket for ticket in row["tickets"] if not self.tickets[ticket]["end"]}
        wanted = there if request.tickets is UNSET else set(request.tickets)
        # Without tickets, once all are gone, the cancel that took the last of them.
        if said := self.said.get(("cancel", id_, frozenset(wanted))):
            return [said | {"replayed": True}]
        own = {ticket for ticket, facts in self.tickets.items() if facts["booking"] == id_}
        wrong = [refused("ticket_not_found") for _ in wanted - own]
        wrong += [spent | self.left(row["event"]) for ticket in wanted & own if (spent := self.spent(ticket))]
        if wrong:
            return wrong
        for ticket in wanted:
            self.tickets[ticket]["end"] = "cancelled"
        gone = [ticket for ticket in row["tickets"] if ticket in wanted]
        self.turn(id_, state="cancelled" if wanted == there else "confirmed", what="cancel", at=now, tickets=gone)
        reply = self.said["cancel", id_, frozenset(wanted)] = self.booking(id_)
        if wanted == there:
            self.said["cancel", id_, frozenset()] = reply
        return [reply]

    def reissue(self, request: Reissue, now: datetime, tickets: Sequence[str]) -> Row:
        old = self.tickets.get(request.ticket)
        if old is None:
            return refused("ticket_not_found")
        if old["instead"]:
            return self.said["reissue", request.ticket] | {"replayed": True}
        if spent := self.spent(request.ticket):
            return spent
        [new] = tickets
        row = self.bookings[old["booking"]]
        old |= {"end": "reissued", "instead": self.new_ticket(row["id"], new)}
        row["tickets"] = [new if ticket == request.ticket else ticket for ticket in row["tickets"]]
        self.turn(row["id"], state=row["state"], what="reissue", at=now, tickets=[request.ticket, new])
        self.said["reissue", request.ticket] = self.ticket(new)
        return self.ticket(new)


def terms_of(made: Create | Event) -> Row:
    """Return what people decided about an event."""
    return {
        "name": made.name,
        "date": made.date,
        "capacity": made.capacity,
        "opens": kept(made.opens),
        "closes": kept(made.closes),
        "paused": made.paused,
        "per_buyer": made.per_buyer or None,
    }
