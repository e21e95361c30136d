"""Shows events, bookings and tickets as replies, and refuses what does not exist or is over."""

from collections.abc import Iterable, Sequence

import msgspec

from ticketd.model import (
    Booking,
    Change,
    Event,
    Redemption,
    cancelled_by,
    opt_time_of,
    redeemed_at,
    ticket_id,
    ticket_parts,
    time_of,
)
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.replies import BookingReply, ChangeFacts, ErrorReply, EventReply, RedemptionFacts, Reply, TicketReply

# Whatever becomes of a booking or a ticket is kept, and shown by one reply. So it must not go on without end: at most
# so often a hold is extended, tickets of a booking are reissued, and the redemption of a ticket is annulled.
EXTENSIONS_MAX = 1_000
REISSUES_MAX = 1_000
ANNULMENTS_MAX = 100


def event_reply(event: Event, *, replayed: bool = False) -> EventReply:
    """Return the reply that shows an event."""
    return EventReply(
        event.id,
        event.name,
        event.date,
        event.capacity,
        event.available,
        event.held,
        event.sold,
        event.version,
        opt_time_of(event.opens),
        opt_time_of(event.closes),
        event.paused,
        event.per_buyer,
        event.waiting,
        replayed=replayed,
    )


def booking_reply(booking: Booking, changes: int | None = None, *, replayed: bool = False) -> BookingReply:
    """Return the reply that shows a booking after its first ``changes`` changes, or after all if that is None."""
    id = booking.id
    if booking.changes is None and booking.seconds is None:
        # By far the most common case: booked, and not changed since.
        return BookingReply(
            id,
            booking.event,
            booking.quantity,
            "confirmed",
            [f"{id}.{ticket}" for ticket in booking.tickets],
            booking.available,
            booking.version,
            time_of(booking.booked_at),
            None,
            booking.buyer,
            replayed=replayed,
        )
    past = (booking.changes or [])[:changes]
    state = booking.state_after(past)
    last = past[-1] if past else booking
    tickets = [] if state in ("waiting", "held") else _tickets_after(booking, len(past))
    cancelled = cancelled_by(past)
    return BookingReply(
        id,
        booking.event,
        booking.quantity,
        state,
        ticket_ids(booking, tickets),
        last.available,
        last.version,
        time_of(booking.booked_at),
        opt_time_of(_expires_after(booking, past)) if state == "held" else None,
        booking.buyer,
        ticket_ids(booking, [ticket for ticket in tickets if ticket in cancelled]) if cancelled else (),
        replayed=replayed,
    )


def _tickets_after(booking: Booking, changes: int) -> Sequence[str]:
    """Return the tickets of a booking as they were after so many changes: none of the later ones is reissued yet."""
    reissues = [change.tickets for change in (booking.changes or [])[changes:] if change.what == "reissue"]
    if not reissues:
        return booking.tickets
    places = {ticket: place for place, ticket in enumerate(booking.tickets)}
    for old, new in reversed(reissues):
        places[old] = places.pop(new)
    return sorted(places, key=places.__getitem__)


def _expires_after(booking: Booking, past: Sequence[Change]) -> int | None:
    return next((change.expires for change in reversed(past) if change.what == "extend"), booking.first_expires)


def replay_of(booking: Booking, change: Change) -> BookingReply:
    """Return the reply that repeats the one to a change of a booking."""
    return booking_reply(booking, (booking.changes or []).index(change) + 1, replayed=True)


def ticket_ids(booking: Booking, tickets: Iterable[str]) -> list[str]:
    """Return the full ids of these tickets of a booking."""
    return [ticket_id(booking.id, ticket) for ticket in tickets]


def changes_of(booking: Booking) -> Sequence[ChangeFacts]:
    """Return the changes of a booking as replies show them."""
    # A tuple: the encoder omits an empty one, since it is the default, but not an empty list.
    return tuple(
        ChangeFacts(
            change.what,
            time_of(change.at),
            change.available,
            change.version,
            ticket_ids(booking, change.tickets) if change.tickets else (),
            opt_time_of(change.expires),
            change.actor,
        )
        for change in booking.changes or ()
    )


def show_redeemed(working_set: WorkingSet, booking: Booking, reply: BookingReply) -> Sequence[Redemption]:
    """Add to a reply those tickets of its booking that are redeemed, and when that was. Return their redemptions."""
    histories = working_set.redemptions.get(booking.id)
    if not histories:
        return ()
    last = {ticket: history[-1] for ticket in booking.tickets if (history := histories.get(ticket))}
    redeemed = {ticket: each for ticket, each in last.items() if each.what == "redeem"}
    if redeemed:
        reply.redeemed = ticket_ids(booking, redeemed)
        reply.redeemed_at = [time_of(each.at) for each in redeemed.values()]
    return tuple(redeemed.values())


def ticket_reply(
    booking: Booking, ticket: str, history: Sequence[Redemption], *, replayed: bool = False
) -> TicketReply:
    """Return the reply that shows a ticket with this history."""
    at = redeemed_at(history)
    if at is not None:
        state = "redeemed"
    elif ticket in booking.cancelled():
        state = "cancelled"
    else:
        state = "valid" if ticket in booking.tickets else "reissued"
    reply = TicketReply(ticket_id(booking.id, ticket), booking.event, booking.id, state, opt_time_of(at))  # type: ignore[arg-type]
    if len(history) > 1:
        reply.history = [_redemption(each) for each in history]
    reply.replayed = replayed
    return reply


def _redemption(redemption: Redemption) -> RedemptionFacts:
    reason = redemption.note if redemption.what == "annul" else None
    return RedemptionFacts(redemption.what, time_of(redemption.at), reason)


def hide_names(replies: Sequence[Reply]) -> None:
    """Remove from replies who did what."""
    for reply in replies:
        if isinstance(reply, BookingReply):
            reply.by = None
            reply.redeemed_by = ()
            for change in reply.changes:
                change.by = None
        elif isinstance(reply, TicketReply):
            reply.by = None
            for redemption in reply.history:
                redemption.by = None


def no_event(event: str) -> ErrorReply:
    """Return the refusal for an event that does not exist."""
    return ErrorReply("event_not_found", f"there is no event {event}; list shows the events")


def no_booking(booking: str) -> ErrorReply:
    """Return the refusal for a booking that does not exist. The id may be that of a ticket."""
    whole, _ = ticket_parts(booking)
    hint = f"; this looks like a ticket of the booking {whole}" if whole else ""
    return ErrorReply("booking_not_found", f"there is no booking {booking}{hint}")


def no_ticket(ticket: str) -> ErrorReply:
    """Return the refusal for a ticket that does not exist. The id may be that of a booking."""
    hint = "" if ticket_parts(ticket)[0] else f"; if this is a booking, show {ticket} lists its tickets"
    return ErrorReply("ticket_not_found", f"there is no ticket {ticket}{hint}")


def too_late(working_set: WorkingSet, booking: Booking) -> ErrorReply:
    """Return the refusal of a command that the state of the booking does not allow."""
    event = working_set.events[booking.event]
    if booking.quantity <= event.available:
        again = f"hold again, with a new id, or confirm {booking.id} --late"
    else:
        again = f"{wait_hint(event, booking.quantity)}, with a new id"
    left = [change.what for change in booking.changes or ()] == ["leave"]
    released = "left the waiting list; begin again" if left else "was released; hold or book again"
    code, message = {
        "confirmed": ("already_confirmed", f"booking {booking.id} is confirmed; cancel takes it back"),
        "released": ("already_released", f"booking {booking.id} {released}, with a new id"),
        "cancelled": ("already_cancelled", f"booking {booking.id} is cancelled; book again, with a new id"),
        "expired": ("hold_expired", f"booking {booking.id} ran out, {event.available} left; {again}"),
        "held": ("bad_request", f"booking {booking.id} is only held; confirm or release it"),
        "waiting": ("bad_request", f"booking {booking.id} still waits; show tells its position, release ends the wait"),
    }[booking.state]
    return ErrorReply(code, message, available=event.available, version=event.version)  # type: ignore[arg-type]


def wait_hint(event: Event, quantity: int) -> str:
    """Return the part of a message that says how to wait for tickets that are not there."""
    return f"wait {event.id} {quantity} joins the waiting list"


def too_often(id: str, what: str, times: int) -> ErrorReply:
    """Return the refusal of what was done so often that its history would grow too long."""
    return ErrorReply("bad_request", f"{id} was {what} {times} times already, and cannot be {what} again")


def count_of(booking: Booking, what: str) -> int:
    """Return how many changes of this kind a booking has had."""
    return sum(change.what == what for change in booking.changes or ())


def not_valid(working_set: WorkingSet, booking: Booking, ticket: str) -> ErrorReply | None:
    """Return the refusal of a command for a ticket of a booking, or None if the ticket is valid."""
    id = ticket_id(booking.id, ticket)
    at = redeemed_at(working_set.history(booking.id, ticket))
    if at is not None:
        time = time_of(at)
        message = f"ticket {id} was redeemed at {msgspec.to_builtins(time)}"
        return ErrorReply("already_redeemed", message, redeemed_at=time)
    if ticket in booking.cancelled():
        return ErrorReply("already_cancelled", f"ticket {id} was cancelled")
    if ticket not in booking.tickets:
        return ErrorReply("already_reissued", f"ticket {id} was replaced by a new one, with another id")
    return None
