"""Decides ``book``, ``hold`` and ``wait``: new bookings, and why they are refused."""

import msgspec
from msgspec import UNSET

from ticketd.model import WAITING_MAX, Booking, BookingState, Event, time_of
from ticketd.rules.memory import Memory
from ticketd.rules.showing import booking_reply, no_event, wait_hint
from ticketd.rules.waiting import serve
from ticketd.rules.waiting_list import WaitingList
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.replies import BookingReply, ErrorReply, Reply
from ticketd.wire.requests import Book, Hold, Wait

NewBooking = Book | Hold | Wait


def book(working_set: WorkingSet, request: Book) -> Reply:
    """Sell tickets."""
    return _make(working_set, request, "confirmed", None)


def hold(working_set: WorkingSet, request: Hold) -> Reply:
    """Reserve tickets for ``seconds``."""
    return _make(working_set, request, "held", request.seconds)


def wait(working_set: WorkingSet, request: Wait) -> Reply:
    """Put a booking at the end of the waiting list. If its tickets are there, and it is its turn, it gets them now."""
    reply = _make(working_set, request, "waiting", request.seconds)
    if not isinstance(reply, BookingReply) or reply.replayed:
        return reply
    event, booking = working_set.events[request.event], working_set.bookings[reply.id]
    working_set.waiting_lists.setdefault(event.id, WaitingList()).add(booking)
    serve(working_set, event)
    if booking.state != "waiting":
        return booking_reply(booking)
    reply.position = event.waiting
    return reply


def _make(working_set: WorkingSet, request: NewBooking, state: BookingState, seconds: int | None) -> Reply:
    """Make the booking, unless it exists or is refused. Return its first reply, or the refusal."""
    id, quantity, now = str(request.booking), request.quantity, working_set.now
    if known := working_set.bookings.get(id):
        return _earlier_reply(known, request, seconds)
    event = working_set.events.get(request.event)
    if event is None:
        return no_event(request.event)
    if refusal := _refusal(event, request, now):
        return refusal
    if working_set.unserved and event.id in working_set.unserved and state != "waiting":
        return waiting_list_first(event)
    if seconds is not None and seconds > working_set.hold_seconds_total_max:
        longest = working_set.hold_seconds_total_max
        return ErrorReply("bad_request", f"seconds must be at most {longest} here, the longest that a hold may last")
    buyer = None if request.buyer is UNSET else request.buyer
    if buyer is not None:
        if not working_set.grant(event, buyer, quantity):
            return over_limit(working_set, event, buyer)
        working_set.own(event.id, buyer, quantity)
    tickets: list[str] = []
    expires: int | None = None
    if state == "confirmed":
        event.shift(available=-quantity, sold=quantity)
        tickets = new_tickets(working_set, quantity)
    elif state == "held":
        event.shift(available=-quantity, held=quantity)
        expires = now + (seconds or 0) * 1_000
    else:
        event.shift(waiting=1)
    booking = Booking(
        id,
        event.id,
        quantity,
        state,
        tickets,
        event.available,
        event.version,
        now,
        seconds,
        expires,
        buyer,
        working_set.actor,
    )
    working_set.put_event(event)
    working_set.put_booking(booking)
    return booking_reply(booking)


def _earlier_reply(known: Booking, request: NewBooking, seconds: int | None) -> Reply:
    """Return the reply if the booking exists already: the first one again, or a conflict."""
    same = (known.event, known.quantity, known.seconds, known.buyer or UNSET, known.waited)
    if same == (request.event, request.quantity, seconds, request.buyer, type(request) is Wait):
        return booking_reply(known, int(_was_held_at_once(known)), replayed=True)
    other = "" if same[3] == request.buyer else ", for another buyer"
    return ErrorReply(
        "booking_conflict",
        f"booking {known.id} exists already: {_parameters(known)}{other}; use a new booking id",
    )


def _was_held_at_once(booking: Booking) -> bool:
    """Whether a booking got its tickets when it joined the waiting list, in the first reply."""
    if not booking.waited or not booking.changes:
        return False
    first = booking.changes[0]
    return first.what == "offer" and first.version == booking.version + 1 and first.at == booking.booked_at


def _parameters(booking: Booking) -> str:
    if booking.seconds is None:
        return f"{booking.quantity} of event {booking.event}, booked"
    how = "waited for, then held" if booking.waited else "held"
    return f"{booking.quantity} of event {booking.event}, {how} for {booking.seconds} s"


def _refusal(event: Event, request: NewBooking, now: int) -> ErrorReply | None:
    """Return why the event cannot take this request now, whatever the buyer has already, or None."""
    if not event.is_on_sale(now):
        return _not_on_sale(event, now)
    if event.per_buyer is not None and request.buyer is UNSET:
        message = (
            f"event {event.id} limits how many tickets a buyer may have, so name the buyer, such as an order number"
        )
        return ErrorReply("bad_request", message)
    if type(request) is Wait:
        return _why_not_waiting(event, request)
    return _sold_out(event, request) if request.quantity > event.available else None


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


def _sold_out(event: Event, request: NewBooking) -> ErrorReply:
    left = f"{event.available} left, fewer than {request.quantity}" if event.available else "no tickets left"
    # Nobody can wait for more tickets than there are in all.
    hint = f"; {wait_hint(event, request.quantity)}" if request.quantity <= event.capacity else ""
    message = f"event {event.id} has {left}{hint}"
    return ErrorReply("sold_out", message, available=event.available, version=event.version)


def _why_not_waiting(event: Event, request: Wait) -> ErrorReply | None:
    if request.quantity > event.capacity:
        tickets = "ticket" if event.capacity == 1 else "tickets"
        message = f"event {event.id} has {event.capacity} {tickets} in all, so nobody can wait for {request.quantity}"
        return ErrorReply("sold_out", message, available=event.available, version=event.version)
    if event.waiting >= WAITING_MAX:
        message = f"the waiting list of event {event.id} is full, with {event.waiting:,} bookings; try again later"
        return ErrorReply("waiting_list_full", message, available=event.available, version=event.version)
    return None


def waiting_list_first(event: Event) -> ErrorReply:
    """Return the refusal while more tickets go to the waiting list than one batch can offer."""
    message = f"what is left of event {event.id} goes to its waiting list first; nothing was done, try again"
    return ErrorReply("busy", message, retry_after=0.1)


def over_limit(working_set: WorkingSet, event: Event, buyer: str) -> ErrorReply:
    """Return the refusal for a buyer who would have more tickets of an event than its limit."""
    owned = working_set.owned.get((event.id, buyer), 0)
    left = max(0, (event.per_buyer or 0) - owned)
    most = f"event {event.id} sells at most {event.per_buyer} tickets to a buyer"
    has = "has, or waits for," if event.waiting else "has"
    return ErrorReply(
        "buyer_limit",
        f"{most}; this buyer {has} {owned}, and may have {left or 'no'} more",
        available=event.available,
        version=event.version,
        left=left,
    )


def new_tickets(working_set: WorkingSet, quantity: int) -> list[str]:
    """Mint the last parts of the ids of a booking's tickets."""
    if quantity == 1:
        return [working_set.new_ticket()]
    tickets = [working_set.new_ticket() for _ in range(quantity)]
    # Random digits can repeat.
    while len(set(tickets)) < quantity:
        tickets = [working_set.new_ticket() for _ in range(quantity)]
    return tickets


def is_refused(memory: Memory, request: Book | Hold) -> bool:
    """Whether memory alone can refuse a booking. With an id, it cannot: it may be a replay."""
    if request.booking is not UNSET:
        return False
    event = memory.event(request.event)
    refused = event is None or _refusal(event, request, memory.now()) is not None
    return refused and memory.is_settled(request.event)


def refuse(memory: Memory, request: Book | Hold) -> Reply:
    """Return the refusal for a booking for which ``is_refused`` holds."""
    event = memory.event(request.event)
    refusal = _refusal(event, request, memory.now()) if event else no_event(request.event)
    # There is none if the sale has opened since ``is_refused``.
    return refusal or ErrorReply("busy", "the sale begins at this moment; try again", retry_after=0.1)
