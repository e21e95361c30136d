"""Decides ``book``, ``hold``, ``confirm``, ``release`` and ``cancel``, and ends holds that have run out."""

from collections.abc import Iterable

from msgspec import UNSET

from ticketd.model import Booking, BookingState, Change, Event, state_after, ticket_id, ticket_parts, time_of
from ticketd.rules.door import not_valid
from ticketd.rules.events import no_event
from ticketd.rules.memory import Memory
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.replies import BookingReply, ErrorReply, Reply
from ticketd.wire.requests import Book, Cancel, Confirm, Hold, Release


def expire_due(working_set: WorkingSet) -> None:
    """Put the tickets of holds that have run out back on sale."""
    for event_id, quantity in working_set.due.items():
        event = working_set.events[event_id]
        # All holds of an event that have run out by now count as one change of the event.
        event.shift(held=-quantity, available=quantity)
        working_set.put_event(event)
        working_set.expired[event_id] = Change("expire", event.available, event.version)
    if working_set.expired:
        for booking in working_set.bookings.values():
            _expire(working_set, booking)


def _expire(working_set: WorkingSet, booking: Booking) -> None:
    # If the event of a hold is not in ``due``, the hold stays as it is committed, and ends in a later batch.
    change = working_set.expired.get(booking.event)
    if change and booking.state == "held" and booking.expires is not None and booking.expires <= working_set.now:
        booking.state = "expired"
        booking.changes = [change]


def booking_reply(booking: Booking, changes: int | None = None, *, replayed: bool = False) -> BookingReply:
    """Return the reply that shows a booking after its first ``changes`` changes, or after all if that is None."""
    id = booking.id
    past = booking.changes[:changes] if booking.changes else None
    if past is None and booking.seconds is None:
        # By far the most common case: booked, and not changed since.
        return BookingReply(
            id,
            booking.event,
            booking.quantity,
            "confirmed",
            [f"{id}.{ticket}" for ticket in booking.tickets],
            booking.available,
            booking.version,
            replayed=replayed,
        )
    past = past or []
    cancelled = {ticket for change in past for ticket in change.tickets}
    state = state_after(booking.seconds, booking.quantity, past)
    last = past[-1] if past else booking
    return BookingReply(
        id,
        booking.event,
        booking.quantity,
        state,
        [] if state == "held" else ticket_ids(booking, booking.tickets),
        last.available,
        last.version,
        time_of(booking.expires) if state == "held" and booking.expires is not None else None,
        ticket_ids(booking, [ticket for ticket in booking.tickets if ticket in cancelled]) if cancelled else (),
        replayed=replayed,
    )


def ticket_ids(booking: Booking, tickets: Iterable[str]) -> list[str]:
    """Return the full ids of these tickets of a booking."""
    return [ticket_id(booking.id, ticket) for ticket in tickets]


def _replay(booking: Booking, change: Change) -> BookingReply:
    return booking_reply(booking, (booking.changes or []).index(change) + 1, replayed=True)


def no_booking(booking: str) -> ErrorReply:
    """Return the refusal for a booking that does not exist."""
    return ErrorReply("booking_not_found", f"there is no booking {booking}")


def _too_late(working_set: WorkingSet, booking: Booking) -> ErrorReply:
    """Return the refusal of a command that the state of the booking does not allow."""
    event = working_set.events[booking.event]
    code, message = {
        "confirmed": ("already_confirmed", f"booking {booking.id} is confirmed; cancel takes it back"),
        "released": ("already_released", f"booking {booking.id} was released; hold or book again, with a new id"),
        "cancelled": ("already_cancelled", f"booking {booking.id} is cancelled; book again, with a new id"),
        "expired": ("hold_expired", f"booking {booking.id} ran out, {event.available} left; hold again, with a new id"),
        "held": ("bad_request", f"booking {booking.id} is only held; release it"),
    }[booking.state]
    return ErrorReply(code, message, available=event.available, version=event.version)  # type: ignore[arg-type]


def book(working_set: WorkingSet, request: Book) -> Reply:
    """Sell tickets."""
    return _book_or_hold(working_set, request, None)


def hold(working_set: WorkingSet, request: Hold) -> Reply:
    """Reserve tickets for ``seconds``."""
    return _book_or_hold(working_set, request, request.seconds)


def _book_or_hold(working_set: WorkingSet, request: Book | Hold, seconds: int | None) -> Reply:
    id = str(request.booking)
    known = working_set.bookings.get(id)
    if known is not None:
        if (known.event, known.quantity, known.seconds) == (request.event, request.quantity, seconds):
            return booking_reply(known, 0, replayed=True)
        return ErrorReply(
            "booking_conflict",
            f"booking {known.id} exists already: {_parameters(known)}; use a new booking id",
        )
    event = working_set.events.get(request.event)
    if event is None or request.quantity > event.available:
        return _refusal(event, request)
    if seconds is None:
        event.shift(available=-request.quantity, sold=request.quantity)
    else:
        event.shift(available=-request.quantity, held=request.quantity)
    booking = Booking(
        id,
        event.id,
        request.quantity,
        "confirmed" if seconds is None else "held",
        [],
        event.available,
        event.version,
        seconds,
        None if seconds is None else working_set.now + seconds * 1_000,
    )
    if seconds is None:
        booking.tickets = _new_tickets(working_set, request.quantity)
    working_set.put_event(event)
    working_set.put_booking(booking)
    return booking_reply(booking)


def _refusal(event: Event | None, request: Book | Hold) -> ErrorReply:
    if event is None:
        return no_event(request.event)
    left = f"{event.available} left, fewer than {request.quantity}" if event.available else "no tickets left"
    return ErrorReply("sold_out", f"event {event.id} has {left}", available=event.available, version=event.version)


def is_refused(memory: Memory, request: Book | Hold) -> bool:
    """Whether memory alone can refuse a booking. Only one without an id: any other may be a replay."""
    if request.booking is not UNSET:
        return False
    event = memory.event(request.event)
    return (event is None or request.quantity > event.available) and memory.is_settled(request.event)


def refuse(memory: Memory, request: Book | Hold) -> Reply:
    """Return the refusal for a booking for which ``is_refused`` holds."""
    return _refusal(memory.event(request.event), request)


def _parameters(booking: Booking) -> str:
    how = "booked" if booking.seconds is None else f"held for {booking.seconds} s"
    return f"{booking.quantity} of event {booking.event}, {how}"


def _new_tickets(working_set: WorkingSet, quantity: int) -> list[str]:
    if quantity == 1:
        return [working_set.new_ticket()]
    tickets = [working_set.new_ticket() for _ in range(quantity)]
    # Random digits can repeat.
    while len(set(tickets)) < quantity:
        tickets = [working_set.new_ticket() for _ in range(quantity)]
    return tickets


def _change(working_set: WorkingSet, booking: Booking, change: Change, state: BookingState) -> BookingReply:
    booking.state = state
    booking.changes = [*(booking.changes or ()), change]
    working_set.put_event(working_set.events[booking.event])
    working_set.put_booking(booking)
    return booking_reply(booking)


def confirm(working_set: WorkingSet, request: Confirm) -> Reply:
    """Sell what is held."""
    booking = working_set.bookings.get(request.booking)
    if booking is None:
        return no_booking(request.booking)
    confirmed = next((change for change in booking.changes or () if change.what == "confirm"), None)
    if booking.state == "confirmed" and confirmed:
        return _replay(booking, confirmed)
    if booking.state != "held":
        return _too_late(working_set, booking)
    event = working_set.events[booking.event]
    event.shift(held=-booking.quantity, sold=booking.quantity)
    booking.tickets = _new_tickets(working_set, booking.quantity)
    return _change(working_set, booking, Change("confirm", event.available, event.version), "confirmed")


def release(working_set: WorkingSet, request: Release) -> Reply:
    """Put what is held back on sale."""
    booking = working_set.bookings.get(request.booking)
    if booking is None:
        return no_booking(request.booking)
    if booking.state == "released":
        return booking_reply(booking, replayed=True)
    if booking.state != "held":
        return _too_late(working_set, booking)
    event = working_set.events[booking.event]
    event.shift(held=-booking.quantity, available=booking.quantity)
    return _change(working_set, booking, Change("release", event.available, event.version), "released")


def cancel(working_set: WorkingSet, request: Cancel) -> Reply:
    """Put tickets that were sold back on sale."""
    booking = working_set.bookings.get(request.booking)
    if booking is None:
        return no_booking(request.booking)
    if booking.state not in ("confirmed", "cancelled"):
        return _too_late(working_set, booking)
    gone = booking.cancelled()
    if request.tickets is UNSET:
        wanted = set(booking.tickets) - gone
    else:
        wanted = set()
        for id in request.tickets:
            its_booking, ticket = ticket_parts(id)
            if its_booking != booking.id or ticket not in booking.tickets:
                return ErrorReply("ticket_not_found", f"booking {booking.id} has no ticket {id}")
            wanted.add(ticket)
    cancels = [change for change in booking.changes or () if change.what == "cancel"]
    if request.tickets is UNSET and not wanted:
        return _replay(booking, cancels[-1])
    for change in cancels:
        if wanted == set(change.tickets):
            return _replay(booking, change)
    event = working_set.events[booking.event]
    redeemed = working_set.redemptions.get(booking.id, {})
    for ticket in sorted(wanted):
        if refusal := not_valid(booking, ticket, redeemed, gone):
            refusal.available, refusal.version = event.available, event.version
            return refusal
    event.shift(sold=-len(wanted), available=len(wanted))
    tickets = [ticket for ticket in booking.tickets if ticket in wanted]
    state: BookingState = "cancelled" if len(gone) + len(wanted) == booking.quantity else "confirmed"
    return _change(working_set, booking, Change("cancel", event.available, event.version, tickets), state)
