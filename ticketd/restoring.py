"""What ``restore`` does to the books: a booking of another ledger is taken in as it is there. Pure.

Its event has come before it, with all that was sold or held there counted as sold elsewhere. From there the tickets of
the booking move to where they belong, so the capacity law holds at every step, and what is on sale is not touched.
"""

from collections.abc import Sequence

import msgspec

from ticketd.books import Books
from ticketd.model import Booking, Change, Ticket, check_past, state_after
from ticketd.protocol import ErrorReply, Restore


def restored(books: Books, request: Restore) -> tuple[Booking, bool] | ErrorReply:
    """Return the booking, and whether all that the request tells was known before; or the refusal."""
    tickets, before = request.tickets or [], request.before or 0
    wanted = _as_made(request)
    known = books.bookings.get(wanted.id)
    booking = known or wanted
    changes = _together(booking.changes, request.changes or ())
    if known:
        same = _facts(known) == _facts(wanted)
        told = known.tickets[before : before + len(tickets)] == tickets and changes == _together(known.changes, ())
        if same and told:
            return known, True
        if known.whole or not same or not _possible(known, tickets, changes):
            return ErrorReply("booking_conflict", f"booking {known.id} is here already, and is another one")
    if before != len(booking.tickets):
        so_far = f"booking {booking.id} has {len(booking.tickets)} tickets so far, not {before}"
        return ErrorReply("booking_conflict", f"{so_far}; send its parts in order")
    for ticket in tickets:
        if ticket in books.tickets:
            other = books.tickets[ticket].booking
            return ErrorReply("booking_conflict", f"ticket {ticket} is here already, of booking {other}")
    event = books.events.get(booking.event)
    if event is None:
        return ErrorReply("event_not_found", f"there is no event {booking.event}; import the events first")
    gone = {ticket for change in changes for ticket in change.tickets}
    state = state_after(booking.seconds, booking.quantity, changes)
    live = booking.quantity if state == "held" else len(set(tickets) - gone)
    newest = changes[-1].version if changes else booking.version
    if live > event.sold_elsewhere or newest > event.version:
        return ErrorReply(
            "event_exists",
            f"event {event.id} here is not as it was there: it is at version {event.version} with"
            f" {event.sold_elsewhere} tickets sold elsewhere, and booking {booking.id} at version {newest} with {live}"
            " of those; import an export that has both, into a ledger that has neither",
            available=event.available,
            version=event.version,
        )
    booking.state, booking.changes = state, changes
    booking.tickets = [*booking.tickets, *tickets]
    for ticket in tickets:
        books.put_ticket(Ticket(ticket, event.id, booking.id, "cancelled" if ticket in gone else "valid"))
    event.sold_elsewhere -= live
    if booking.expires and state == "held" and booking.expires > books.now:
        event.move(live, "sold", "held")
    elif state == "held":
        event.move(live, "sold", "available")
        booking.state, booking.changes = "expired", [Change("expire", event.available, event.version)]
    if live:
        books.put_event(event)
    books.put_booking(booking)
    return booking, False


def _as_made(request: Restore) -> Booking:
    return Booking(
        request.booking,
        request.event,
        request.quantity,
        "held" if request.seconds else "confirmed",
        [],
        request.available,
        request.version,
        request.seconds or None,
        request.expires or None,
    )


def _facts(booking: Booking) -> tuple[object, ...]:
    """Return what a booking keeps all its life."""
    return booking.event, booking.quantity, booking.available, booking.version, booking.seconds, booking.expires


def _together(changes: Sequence[Change], more: Sequence[Change]) -> list[Change]:
    """Return the changes of both, in order. A cancel of tickets in several parts comes with each of them."""
    together: list[Change] = []
    for change in sorted([*changes, *more], key=lambda change: change.version):
        last = together[-1] if together else None
        if last and (last.what, last.available, last.version) == (change.what, change.available, change.version):
            tickets = [*last.tickets, *(ticket for ticket in change.tickets if ticket not in last.tickets)]
            together[-1] = msgspec.structs.replace(last, tickets=tickets)
        else:
            together.append(msgspec.structs.replace(change, tickets=list(change.tickets)))
    return together


def _possible(booking: Booking, tickets: Sequence[str], changes: Sequence[Change]) -> bool:
    """Whether this can be the past of the booking with these tickets added to it."""
    try:
        check_past(booking.seconds, booking.version, [*booking.tickets, *tickets], changes)
    except ValueError:
        return False
    return True
