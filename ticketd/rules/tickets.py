"""Decides ``cancel`` and ``reissue``: what becomes of tickets after they were sold."""

from msgspec import UNSET

from ticketd.model import Booking, BookingState, Change, redeemed_at, ticket_id, ticket_parts
from ticketd.rules.bookings import change
from ticketd.rules.showing import (
    REISSUES_MAX,
    count_of,
    no_booking,
    no_ticket,
    not_valid,
    replay_of,
    too_late,
    too_often,
)
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.replies import ErrorReply, Reply, TicketReply
from ticketd.wire.requests import Cancel, Reissue


def cancel(working_set: WorkingSet, request: Cancel) -> Reply:
    """Put tickets that were sold back on sale."""
    booking = working_set.bookings.get(request.booking)
    if booking is None:
        return no_booking(request.booking)
    if booking.state not in ("confirmed", "cancelled"):
        return too_late(working_set, booking)
    # As sets: there may be a thousand tickets and as many changes, too many to go through them for each ticket.
    gone = booking.cancelled()
    current = set(booking.tickets)
    if request.tickets is UNSET:
        wanted = current - gone
    else:
        wanted, had = set(), current | booking.replaced().keys()
        for id in request.tickets:
            its_booking, ticket = ticket_parts(id)
            if its_booking != booking.id or ticket not in had:
                return ErrorReply("ticket_not_found", f"booking {booking.id} has no ticket {id}")
            wanted.add(ticket)
    cancels = [change for change in booking.changes or () if change.what == "cancel"]
    if request.tickets is UNSET and not wanted:
        return replay_of(booking, cancels[-1])
    for earlier in cancels:
        if wanted == set(earlier.tickets):
            return replay_of(booking, earlier)
    event = working_set.events[booking.event]
    used = {ticket for ticket in wanted if redeemed_at(working_set.history(booking.id, ticket)) is not None}
    ended = used | (wanted & gone) | (wanted - current)
    if ended and (refusal := not_valid(working_set, booking, min(ended))):
        refusal.available, refusal.version = event.available, event.version
        return refusal
    event.shift(sold=-len(wanted), available=len(wanted))
    tickets = [ticket for ticket in booking.tickets if ticket in wanted]
    state: BookingState = "cancelled" if len(gone) + len(wanted) == booking.quantity else "confirmed"
    cancellation = Change("cancel", event.available, event.version, working_set.now, tickets)
    return change(working_set, booking, cancellation, state)


def reissue(working_set: WorkingSet, request: Reissue) -> Reply:
    """Replace a ticket by a new one, in the same booking. Its place is never free in between."""
    booking_id, ticket = ticket_parts(request.ticket)
    booking = working_set.bookings.get(booking_id)
    if booking is None or not booking.had(ticket):
        return no_ticket(request.ticket)
    replaced = booking.replaced()
    if ticket in replaced:
        # The original reply, whatever has become of the new ticket since.
        return _reissued(booking, replaced[ticket], replayed=True)
    if refusal := not_valid(working_set, booking, ticket):
        return refusal
    if count_of(booking, "reissue") >= REISSUES_MAX:
        return too_often(f"booking {booking.id}", "reissued", REISSUES_MAX)
    new = working_set.new_ticket()
    while booking.had(new):
        new = working_set.new_ticket()
    event = working_set.events[booking.event]
    event.shift()
    booking.tickets = [new if each == ticket else each for each in booking.tickets]
    reissue = Change("reissue", event.available, event.version, working_set.now, [ticket, new])
    change(working_set, booking, reissue, booking.state)
    return _reissued(booking, new)


def _reissued(booking: Booking, new: str, *, replayed: bool = False) -> TicketReply:
    return TicketReply(ticket_id(booking.id, new), booking.event, booking.id, "valid", replayed=replayed)
