"""Decides ``extend``, ``confirm`` and ``release``, and ends holds that have run out."""

from ticketd.model import Booking, BookingState, Change
from ticketd.rules.new_bookings import new_tickets, over_limit, waiting_list_first
from ticketd.rules.showing import (
    EXTENSIONS_MAX,
    booking_reply,
    count_of,
    no_booking,
    replay_of,
    too_late,
    too_often,
)
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.replies import BookingReply, Reply
from ticketd.wire.requests import Confirm, Extend, Release


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
            return waiting_list_first(event)
        if booking.buyer is not None and not working_set.grant(event, booking.buyer, booking.quantity):
            return over_limit(working_set, event, booking.buyer)
        event.shift(available=-booking.quantity, sold=booking.quantity)
    else:
        return too_late(working_set, booking)
    booking.tickets = new_tickets(working_set, booking.quantity)
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
