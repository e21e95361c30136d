"""What each request does to the books. Pure: time and ids come from the caller; nothing here waits, reads or writes.

A refused request changes nothing. The same rules run over every store.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import UNSET

from ticketd.books import Adopt, Books, LedgerRequest
from ticketd.model import Booking, BookingState, Change, Event, Ticket, state_after
from ticketd.protocol import (
    Amend,
    Book,
    BookingRecord,
    BookingReply,
    Bookings,
    BookingsReply,
    Cancel,
    Confirm,
    Create,
    ErrorReply,
    EventReply,
    Hold,
    Made,
    Redeem,
    Release,
    Reply,
    Restore,
    Show,
    TicketFacts,
    TicketReply,
    Tickets,
    TicketsReply,
)
from ticketd.restoring import restored

RETRY_AFTER_SECONDS = 1.0


def decide_all(books: Books, requests: Sequence[LedgerRequest]) -> list[Reply]:
    """Decide the requests in order and return their replies. Before any of them, what ran out goes back on sale."""
    for event_id, quantity in books.due.items():
        event = books.events[event_id]
        # All holds of an event that ran out by now are one change of it.
        event.move(quantity, "held", "available")
        books.put_event(event)
        books.expired[event_id] = Change("expire", event.available, event.version)
    for booking in books.bookings.values():
        _expire(books, booking)
    return [_RULES[type(request)](books, request) for request in requests]


def _expire(books: Books, booking: Booking) -> None:
    # Where a store did not load what is due of an event, a hold is read as it is committed, and ends in another batch.
    change = books.expired.get(booking.event)
    if change and booking.state == "held" and booking.expires is not None and booking.expires <= books.now:
        booking.state = "expired"
        booking.changes = [change]


# Replies


def event_reply(event: Event, *, replayed: bool = False) -> EventReply:
    """Return the reply that shows an event."""
    reply = msgspec.convert(event, EventReply, from_attributes=True)
    reply.replayed = replayed
    return reply


def _booking_reply(booking: Booking, changes: int | None = None, *, replayed: bool = False) -> BookingReply:
    """Return the reply that shows a booking as it was after so many of its changes, or as it is."""
    past = booking.changes if changes is None else booking.changes[:changes]
    if not past and booking.seconds is None:
        # By far the most common one.
        return BookingReply(
            booking.id,
            booking.event,
            booking.quantity,
            "confirmed",
            booking.tickets,
            booking.available,
            booking.version,
            replayed=replayed,
        )
    cancelled = {ticket for change in past for ticket in change.tickets}
    state = state_after(booking.seconds, booking.quantity, past)
    last = past[-1] if past else booking
    return BookingReply(
        booking.id,
        booking.event,
        booking.quantity,
        state,
        [] if state == "held" else booking.tickets,
        last.available,
        last.version,
        booking.expires if state == "held" else None,
        [ticket for ticket in booking.tickets if ticket in cancelled] if cancelled else (),
        replayed=replayed,
    )


def _replay(booking: Booking, change: Change) -> BookingReply:
    return _booking_reply(booking, booking.changes.index(change) + 1, replayed=True)


def _ticket_reply(ticket: Ticket, *, replayed: bool = False) -> TicketReply:
    return TicketReply(ticket.id, ticket.event, ticket.booking, ticket.state, ticket.redeemed_at, replayed)


def _no_event(event: str) -> ErrorReply:
    return ErrorReply("event_not_found", f"there is no event {event}; list shows the events")


def _not_whole(booking: Booking) -> ErrorReply:
    there = f"{len(booking.tickets)} of its {booking.quantity} tickets"
    message = f"booking {booking.id} is being restored and has {there} so far; nothing was done, try again"
    return ErrorReply("busy", message, retry_after=RETRY_AFTER_SECONDS)


def _whole(books: Books, booking_id: str) -> Booking | ErrorReply:
    """Return a booking that can be changed, or the refusal."""
    booking = books.bookings.get(booking_id)
    if booking is None:
        return ErrorReply("booking_not_found", f"there is no booking {booking_id}")
    return booking if booking.whole else _not_whole(booking)


def _crossed(books: Books, booking: Booking) -> ErrorReply:
    """Return the refusal of a command that comes too late, by what the booking is now."""
    event = books.events[booking.event]
    code, message = {
        "confirmed": ("already_confirmed", f"booking {booking.id} is confirmed; cancel takes it back"),
        "released": ("already_released", f"booking {booking.id} was released; hold or book again, with a new id"),
        "cancelled": ("already_cancelled", f"booking {booking.id} is cancelled; book again, with a new id"),
        "expired": ("hold_expired", f"booking {booking.id} ran out, {event.available} left; hold again, with a new id"),
        "held": ("bad_request", f"booking {booking.id} is only held; release it"),
    }[booking.state]
    return ErrorReply(code, message, available=event.available, version=event.version)  # type: ignore[arg-type]


# Events


def _create(books: Books, request: Create) -> Reply:
    available = request.capacity if request.available is UNSET else request.available
    elsewhere = request.capacity - available
    wanted = Event(
        id=str(request.id),
        name=request.name,
        date=request.date,
        capacity=request.capacity,
        available=available,
        held=0,
        sold=elsewhere,
        version=request.version or 0,
        sold_elsewhere=elsewhere,
    )
    known = books.events.get(wanted.id)
    if known is None:
        books.put_event(wanted)
        return event_reply(wanted)
    original = known.original or (known.name, known.date, known.capacity)
    if original == (wanted.name, wanted.date, wanted.capacity) and known.sold_elsewhere == elsewhere:
        # The original reply: as the event was when it was created.
        return event_reply(wanted, replayed=True)
    return ErrorReply("event_exists", f"event {wanted.id} exists and is another one; choose another id")


def _adopt(books: Books, request: Adopt) -> Reply:
    known = books.events.get(request.event.id)
    if known is None:
        # A copy: the batch may be tried again, and what is put into the books changes.
        books.put_event(msgspec.structs.replace(request.event))
    return event_reply(known or request.event)


def _amend(books: Books, request: Amend) -> Reply:
    event = books.events.get(request.event)
    if event is None:
        return _no_event(request.event)
    before = (event.name, event.date, event.capacity)
    after = (
        event.name if request.name is UNSET else request.name,
        event.date if request.date is UNSET else request.date,
        event.capacity if request.capacity is UNSET else request.capacity,
    )
    if after == before:
        return event_reply(event, replayed=True)
    floor = event.sold + event.held
    if after[2] < floor:
        return ErrorReply(
            "capacity_below_sold",
            f"event {event.id} has {event.sold} sold and {event.held} held; its capacity must be at least {floor}",
            available=event.available,
            version=event.version,
        )
    event.original = event.original or before
    event.name, event.date, event.capacity = after
    event.available = event.capacity - floor
    event.version += 1
    books.put_event(event)
    return event_reply(event)


# Bookings


def _book(books: Books, request: Book) -> Reply:
    return _take(books, request, None)


def _hold(books: Books, request: Hold) -> Reply:
    return _take(books, request, request.seconds)


def _take(books: Books, request: Book | Hold, seconds: int | None) -> Reply:
    known = books.bookings.get(str(request.booking))
    if known is not None:
        if (known.event, known.quantity, known.seconds) == (request.event, request.quantity, seconds):
            return _booking_reply(known, 0, replayed=True) if known.whole else _not_whole(known)
        return ErrorReply(
            "booking_conflict",
            f"booking {known.id} is another one, {_parameters(known)}; use a new booking id",
        )
    event = books.events.get(request.event)
    if event is None:
        return _no_event(request.event)
    if request.quantity > event.available:
        left = f"{event.available} left, fewer than {request.quantity}" if event.available else "no tickets left"
        return ErrorReply("sold_out", f"event {event.id} has {left}", available=event.available, version=event.version)
    event.move(request.quantity, "available", "sold" if seconds is None else "held")
    booking = Booking(
        str(request.booking),
        event.id,
        request.quantity,
        "confirmed" if seconds is None else "held",
        [],
        event.available,
        event.version,
        seconds,
        None if seconds is None else books.now + timedelta(seconds=seconds),
    )
    if seconds is None:
        _issue(books, booking)
    books.put_event(event)
    books.put_booking(booking)
    return _booking_reply(booking)


def _parameters(booking: Booking) -> str:
    how = "booked" if booking.seconds is None else f"held for {booking.seconds} s"
    return f"{booking.quantity} of event {booking.event}, {how}"


def _issue(books: Books, booking: Booking) -> None:
    booking.tickets = [books.new_id() for _ in range(booking.quantity)]
    for ticket in booking.tickets:
        books.put_ticket(Ticket(ticket, booking.event, booking.id, "valid"))


def _change(books: Books, booking: Booking, change: Change, state: BookingState) -> BookingReply:
    booking.state = state
    booking.changes = [*booking.changes, change]
    books.put_event(books.events[booking.event])
    books.put_booking(booking)
    return _booking_reply(booking)


def _confirm(books: Books, request: Confirm) -> Reply:
    booking = _whole(books, request.booking)
    if isinstance(booking, ErrorReply):
        return booking
    confirmed = next((change for change in booking.changes if change.what == "confirm"), None)
    if booking.state == "confirmed" and confirmed:
        return _replay(booking, confirmed)
    if booking.state != "held":
        return _crossed(books, booking)
    event = books.events[booking.event]
    event.move(booking.quantity, "held", "sold")
    _issue(books, booking)
    return _change(books, booking, Change("confirm", event.available, event.version), "confirmed")


def _release(books: Books, request: Release) -> Reply:
    booking = _whole(books, request.booking)
    if isinstance(booking, ErrorReply):
        return booking
    if booking.state == "released":
        return _booking_reply(booking, replayed=True)
    if booking.state != "held":
        return _crossed(books, booking)
    event = books.events[booking.event]
    event.move(booking.quantity, "held", "available")
    return _change(books, booking, Change("release", event.available, event.version), "released")


def _cancel(books: Books, request: Cancel) -> Reply:
    booking = _whole(books, request.booking)
    if isinstance(booking, ErrorReply):
        return booking
    if booking.state not in ("confirmed", "cancelled"):
        return _crossed(books, booking)
    gone = {ticket for change in booking.changes for ticket in change.tickets}
    wanted = set(booking.tickets) - gone if request.tickets is UNSET else set(request.tickets)
    cancels = [change for change in booking.changes if change.what == "cancel"]
    if request.tickets is UNSET and not wanted:
        return _replay(booking, cancels[-1])
    for change in cancels:
        if wanted == set(change.tickets):
            return _replay(booking, change)
    event = books.events[booking.event]
    its_own = set(booking.tickets)
    for ticket_id in sorted(wanted):
        if ticket_id not in its_own:
            return ErrorReply("ticket_not_found", f"booking {booking.id} has no ticket {ticket_id}")
        if refusal := _spent(books.tickets[ticket_id]):
            refusal.available, refusal.version = event.available, event.version
            return refusal
    event.move(len(wanted), "sold", "available")
    tickets = [ticket for ticket in booking.tickets if ticket in wanted]
    for ticket_id in tickets:
        ticket = books.tickets[ticket_id]
        ticket.state = "cancelled"
        books.put_ticket(ticket)
    state: BookingState = "cancelled" if len(gone) + len(wanted) == booking.quantity else "confirmed"
    return _change(books, booking, Change("cancel", event.available, event.version, tickets), state)


def _restore(books: Books, request: Restore) -> Reply:
    done = restored(books, request)
    if isinstance(done, ErrorReply):
        return done
    booking, known = done
    return _booking_reply(booking, replayed=known)


# Tickets


def _spent(ticket: Ticket) -> ErrorReply | None:
    """Return the refusal of whatever needs a valid ticket, or None for a valid one."""
    match ticket.state:
        case "redeemed":
            at = msgspec.to_builtins(ticket.redeemed_at)
            message = f"ticket {ticket.id} was redeemed at {at}"
            return ErrorReply("already_redeemed", message, redeemed_at=ticket.redeemed_at)
        case "cancelled":
            return ErrorReply("already_cancelled", f"ticket {ticket.id} was cancelled")
        case _:
            return None


def _redeem(books: Books, request: Redeem) -> Reply:
    ticket = books.tickets.get(request.ticket)
    if ticket is None:
        return ErrorReply("ticket_not_found", f"there is no ticket {request.ticket}")
    if ticket.state == "redeemed" and ticket.redeemed_at == request.at:
        return _ticket_reply(ticket, replayed=True)
    if refusal := _spent(ticket):
        return refusal
    ticket.state = "redeemed"
    ticket.redeemed_at = books.now if request.at is UNSET else request.at
    books.put_ticket(ticket)
    return _ticket_reply(ticket)


# Reading


def _show(books: Books, request: Show) -> Reply:
    if event := books.events.get(request.id):
        return event_reply(event)
    if booking := books.bookings.get(request.id):
        reply = _booking_reply(booking)
        redeemed = [ticket for ticket in booking.tickets if books.tickets[ticket].state == "redeemed"]
        reply.redeemed = redeemed or ()
        return reply
    if ticket := books.tickets.get(request.id):
        return _ticket_reply(ticket)
    return ErrorReply("not_found", f"there is no event, booking or ticket {request.id}")


def _bookings(books: Books, _request: Bookings) -> Reply:
    page: list[Any] = books.pages.pop(0)
    for booking in page:
        _expire(books, booking)
    return BookingsReply([_record(booking) for booking in page])


def _record(booking: Booking) -> BookingRecord:
    # A BookingReply is BookingFacts and one field more.
    record = BookingRecord(*msgspec.structs.astuple(_booking_reply(booking))[:-1])
    if booking.changes or booking.seconds is not None:
        record.made = Made(booking.available, booking.version, booking.seconds, booking.expires)
        record.changes = booking.changes or ()
    return record


def _tickets(books: Books, _request: Tickets) -> Reply:
    page: list[Any] = books.pages.pop(0)
    return TicketsReply([TicketFacts(*msgspec.structs.astuple(ticket)) for ticket in page])


_RULES: dict[type, Callable[[Books, Any], Reply]] = {
    Create: _create,
    Adopt: _adopt,
    Amend: _amend,
    Book: _book,
    Hold: _hold,
    Confirm: _confirm,
    Release: _release,
    Cancel: _cancel,
    Redeem: _redeem,
    Show: _show,
    Bookings: _bookings,
    Tickets: _tickets,
    Restore: _restore,
}
