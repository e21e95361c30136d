"""Decides ``book``, ``hold``, ``extend``, ``confirm`` and ``release``, and ends holds that have run out."""

import msgspec
from msgspec import UNSET

from ticketd.model import Booking, BookingState, Change, Event, time_of
from ticketd.rules.memory import Memory
from ticketd.rules.showing import (
    EXTENSIONS_MAX,
    booking_reply,
    count_of,
    no_booking,
    no_event,
    replay_of,
    too_late,
    too_often,
)
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.replies import BookingReply, ErrorReply, Reply
from ticketd.wire.requests import Book, Confirm, Extend, Hold, Release, Wait


def expire_due(working_set: WorkingSet) -> None:
    """Put the tickets of holds that have run out back on sale."""
    for event_id, quantity in working_set.due.items():
        event = working_set.events[event_id]
        # All holds of an event that have run out by now count as one change of the event.
        event.shift(held=-quantity, available=quantity)
        working_set.put_event(event)
        working_set.expired[event_id] = Change("expire", event.available, event.version, working_set.now)
    if working_set.expired:
        for booking in working_set.bookings.values():
            _expire(working_set, booking)


def _expire(working_set: WorkingSet, booking: Booking) -> None:
    # If the event of a hold is not in ``due``, the hold stays as it is committed, and ends in a later batch.
    change = working_set.expired.get(booking.event)
    if change and booking.state == "held" and booking.expires is not None and booking.expires <= working_set.now:
        booking.state = "expired"
        booking.changes = [*(booking.changes or ()), change]


def book(working_set: WorkingSet, request: Book) -> Reply:
    """Sell tickets."""
    return _book_or_hold(working_set, request, None)


def hold(working_set: WorkingSet, request: Hold) -> Reply:
    """Reserve tickets for ``seconds``."""
    return _book_or_hold(working_set, request, request.seconds)


def _book_or_hold(working_set: WorkingSet, request: Book | Hold, seconds: int | None) -> Reply:
    id = str(request.booking)
    if earlier := earlier_reply(working_set, request, seconds):
        return earlier
    event = working_set.events.get(request.event)
    if event is None:
        return no_event(request.event)
    if refusal := refusal_of_terms(working_set, event, request, seconds) or _sold_out(event, request):
        return refusal
    if event.id in working_set.unserved:
        return _line_first(event)
    buyer = None if request.buyer is UNSET else request.buyer
    if buyer is not None:
        if not working_set.grant(event, buyer, request.quantity):
            return over_limit(working_set, event, buyer)
        working_set.own(event.id, buyer, request.quantity)
    if seconds is None:
        event.shift(available=-request.quantity, sold=request.quantity)
    else:
        event.shift(available=-request.quantity, held=request.quantity)
    now = working_set.now
    booking = Booking(
        id,
        event.id,
        request.quantity,
        "confirmed" if seconds is None else "held",
        [],
        event.available,
        event.version,
        now,
        seconds,
        None if seconds is None else now + seconds * 1_000,
        buyer,
        working_set.actor,
    )
    if seconds is None:
        booking.tickets = _new_tickets(working_set, request.quantity)
    working_set.put_event(event)
    working_set.put_booking(booking)
    return booking_reply(booking)


def earlier_reply(working_set: WorkingSet, request: Book | Hold | Wait, seconds: int | None) -> Reply | None:
    """Return the reply if the booking exists already: the first one again, or a conflict. Else None."""
    known = working_set.bookings.get(str(request.booking))
    if known is None:
        return None
    same = (known.event, known.quantity, known.seconds, known.buyer or UNSET, known.waited)
    if same == (request.event, request.quantity, seconds, request.buyer, type(request) is Wait):
        return booking_reply(known, int(_was_held_at_once(known)), replayed=True)
    other = "" if same[3] == request.buyer else ", for another buyer"
    return ErrorReply(
        "booking_conflict",
        f"booking {known.id} exists already: {_parameters(known)}{other}; use a new booking id",
    )


def _was_held_at_once(booking: Booking) -> bool:
    """Whether a booking did not have to wait in line: its tickets were there when it came."""
    if not booking.waited or not booking.changes:
        return False
    first = booking.changes[0]
    return first.what == "offer" and first.version == booking.version + 1 and first.at == booking.booked_at


def refusal_of_terms(
    working_set: WorkingSet, event: Event, request: Book | Hold | Wait, seconds: int | None
) -> ErrorReply | None:
    """Return why an event is not sold on these terms now, however many tickets there are, or None."""
    if refusal := _not_for_sale(event, request, working_set.now):
        return refusal
    if seconds is not None and seconds > working_set.hold_seconds_total_max:
        longest = working_set.hold_seconds_total_max
        return ErrorReply("bad_request", f"seconds must be at most {longest} here, the longest that a hold may last")
    return None


def _not_for_sale(event: Event, request: Book | Hold | Wait, now: int) -> ErrorReply | None:
    if not event.is_on_sale(now):
        return _not_on_sale(event, now)
    if event.per_buyer is not None and request.buyer is UNSET:
        message = (
            f"event {event.id} limits how many tickets a buyer may have, so name the buyer, such as an order number"
        )
        return ErrorReply("bad_request", message)
    return None


def _sold_out(event: Event, request: Book | Hold) -> ErrorReply | None:
    if request.quantity > event.available:
        left = f"{event.available} left, fewer than {request.quantity}" if event.available else "no tickets left"
        return ErrorReply("sold_out", f"event {event.id} has {left}", available=event.available, version=event.version)
    return None


def _not_on_sale(event: Event, now: int) -> ErrorReply:
    opens = None if event.opens is None or event.opens <= now else time_of(event.opens)
    if event.closes is not None and event.closes <= now:
        when = f"closed at {msgspec.to_builtins(time_of(event.closes))}"
    elif opens:
        when = f"opens at {msgspec.to_builtins(opens)}"
    else:
        when = "is paused; try again later"
    message = f"the sale of event {event.id} {when}"
    return ErrorReply("not_on_sale", message, available=event.available, version=event.version, opens=opens)


def _line_first(event: Event) -> ErrorReply:
    """Return the refusal while tickets go to those who wait in line, too many for one batch."""
    message = f"tickets of event {event.id} go to those who wait in line first; try again"
    return ErrorReply("busy", message, retry_after=0.1)


def over_limit(working_set: WorkingSet, event: Event, buyer: str) -> ErrorReply:
    """Return the refusal for a buyer who would have more tickets of an event than its limit."""
    owned = working_set.owned.get((event.id, buyer), 0)
    left = max(0, (event.per_buyer or 0) - owned)
    most = f"event {event.id} sells at most {event.per_buyer} tickets to a buyer"
    return ErrorReply(
        "buyer_limit",
        f"{most}; this buyer has {owned}, and may have {left or 'no'} more",
        available=event.available,
        version=event.version,
        left=left,
    )


def _refusal(event: Event, request: Book | Hold, now: int) -> ErrorReply | None:
    return _not_for_sale(event, request, now) or _sold_out(event, request)


def is_refused(memory: Memory, request: Book | Hold) -> bool:
    """Whether memory alone can refuse a booking. Only one without an id: any other may be a replay."""
    if request.booking is not UNSET:
        return False
    event = memory.event(request.event)
    refused = event is None or _refusal(event, request, memory.now()) is not None
    return refused and memory.is_settled(request.event)


def refuse(memory: Memory, request: Book | Hold) -> Reply:
    """Return the refusal for a booking for which ``is_refused`` holds."""
    event = memory.event(request.event)
    refusal = _refusal(event, request, memory.now()) if event else no_event(request.event)
    # It is no longer refused: its sale has opened since ``is_refused``.
    return refusal or ErrorReply("busy", "the sale begins at this moment; try again", retry_after=0.1)


def _parameters(booking: Booking) -> str:
    if booking.seconds is None:
        return f"{booking.quantity} of event {booking.event}, booked"
    how = "waited for, then held" if booking.waited else "held"
    return f"{booking.quantity} of event {booking.event}, {how} for {booking.seconds} s"


def _new_tickets(working_set: WorkingSet, quantity: int) -> list[str]:
    if quantity == 1:
        return [working_set.new_ticket()]
    tickets = [working_set.new_ticket() for _ in range(quantity)]
    # Random digits can repeat.
    while len(set(tickets)) < quantity:
        tickets = [working_set.new_ticket() for _ in range(quantity)]
    return tickets


def change(working_set: WorkingSet, booking: Booking, change: Change, state: BookingState) -> BookingReply:
    """Record a change of a booking, whose event has changed already. Returns the reply that shows it."""
    owned = booking.owned()
    change.actor = working_set.actor
    booking.state = state
    booking.changes = [*(booking.changes or ()), change]
    if booking.buyer is not None:
        working_set.own(booking.event, booking.buyer, booking.owned() - owned)
    working_set.put_event(working_set.events[booking.event])
    working_set.put_booking(booking)
    return booking_reply(booking)


def extend(working_set: WorkingSet, request: Extend) -> Reply:
    """Keep what is held for longer, unless that is longer than a hold may last."""
    booking = working_set.bookings.get(request.booking)
    if booking is None:
        return no_booking(request.booking)
    if booking.state != "held" or booking.expires is None or booking.held_since is None:
        return too_late(working_set, booking)
    ceiling = booking.held_since + working_set.hold_seconds_total_max * 1_000
    expires = min(working_set.now + request.seconds * 1_000, ceiling)
    if expires <= booking.expires:
        return booking_reply(booking, replayed=True)
    if count_of(booking, "extend") >= EXTENSIONS_MAX:
        return too_often(f"booking {booking.id}", "extended", EXTENSIONS_MAX)
    event = working_set.events[booking.event]
    event.shift()
    booking.expires = expires
    extension = Change("extend", event.available, event.version, working_set.now, (), expires)
    return change(working_set, booking, extension, "held")


def confirm(working_set: WorkingSet, request: Confirm) -> Reply:
    """Sell what is held."""
    booking = working_set.bookings.get(request.booking)
    if booking is None:
        return no_booking(request.booking)
    confirmed = next((change for change in booking.changes or () if change.what == "confirm"), None)
    if booking.state == "confirmed" and confirmed:
        return replay_of(booking, confirmed)
    event = working_set.events[booking.event]
    if booking.state == "held":
        event.shift(held=-booking.quantity, sold=booking.quantity)
    elif booking.state == "expired" and request.late and booking.quantity <= event.available:
        if event.id in working_set.unserved:
            return _line_first(event)
        if booking.buyer is not None and not working_set.grant(event, booking.buyer, booking.quantity):
            return over_limit(working_set, event, booking.buyer)
        event.shift(available=-booking.quantity, sold=booking.quantity)
    else:
        return too_late(working_set, booking)
    booking.tickets = _new_tickets(working_set, booking.quantity)
    confirmation = Change("confirm", event.available, event.version, working_set.now)
    return change(working_set, booking, confirmation, "confirmed")


def release(working_set: WorkingSet, request: Release) -> Reply:
    """Put what is held back on sale, or leave the waiting list."""
    booking = working_set.bookings.get(request.booking)
    if booking is None:
        return no_booking(request.booking)
    if booking.state == "released":
        return booking_reply(booking, replayed=True)
    if booking.state not in ("waiting", "held"):
        return too_late(working_set, booking)
    event = working_set.events[booking.event]
    if booking.state == "waiting":
        event.shift(waiting=-1)
        left = Change("leave", event.available, event.version, working_set.now)
        return change(working_set, booking, left, "released")
    event.shift(held=-booking.quantity, available=booking.quantity)
    return change(working_set, booking, Change("release", event.available, event.version, working_set.now), "released")
