"""Answers the commands that only read what is committed, from memory or from the ledger."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET

from ticketd.model import Booking, ticket_parts, time_of
from ticketd.rules.bookings import booking_reply, no_booking, ticket_ids
from ticketd.rules.door import no_ticket, ticket_reply
from ticketd.rules.events import event_reply, no_event
from ticketd.rules.memory import Memory
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.commands import help_reply
from ticketd.wire.replies import (
    BookingRecord,
    BookingsReply,
    ErrorReply,
    Made,
    PongReply,
    Reply,
)
from ticketd.wire.requests import Bookings, Help, List, Ping, Ready, Show, Stats


def list_events(memory: Memory, request: List) -> bytes:
    """Show the events. The reply is encoded already, since many clients get the same one."""
    return memory.list_frame(request)


def stats(memory: Memory, _request: Stats) -> Reply:
    """Show what the daemon is doing."""
    return memory.stats()


def ping(_memory: Memory, _request: Ping) -> Reply:
    """Check whether the daemon answers."""
    return PongReply()


def ready(memory: Memory, _request: Ready) -> Reply:
    """Check whether a commit is possible."""
    return memory.ready()


def explain(_memory: Memory, request: Help) -> Reply:
    """Show the commands. Raises TicketError if there is no such command."""
    return help_reply(request)


def is_event(memory: Memory, request: Show) -> bool:
    """Whether ``show`` asks for an event, which is in memory."""
    return request.kind in (UNSET, "event") and memory.event(request.id) is not None


def show_event(memory: Memory, request: Show) -> Reply:
    """Show an event that is in memory."""
    event = memory.event(request.id)
    assert event is not None
    return event_reply(event)


def _event(working_set: WorkingSet, id: str) -> Reply | None:
    event = working_set.events.get(id)
    return event_reply(event) if event else None


def _booking(working_set: WorkingSet, id: str) -> Reply | None:
    booking = working_set.bookings.get(id)
    if booking is None:
        return None
    reply = booking_reply(booking)
    reply.redeemed, reply.redeemed_at = _redeemed(working_set, booking)
    return reply


def _ticket(working_set: WorkingSet, id: str) -> Reply | None:
    booking_id, ticket = ticket_parts(id)
    booking = working_set.bookings.get(booking_id)
    if booking is None or ticket not in booking.tickets:
        return None
    return ticket_reply(booking, ticket, working_set.redemptions.get(booking_id, {}))


# What ``show`` finds, in this order, and the refusal of each.
_KINDS = {"event": (_event, no_event), "booking": (_booking, no_booking), "ticket": (_ticket, no_ticket)}


def show(working_set: WorkingSet, request: Show) -> Reply:
    """Show an event, a booking or a ticket."""
    if request.kind is not UNSET:
        find, refusal = _KINDS[request.kind]
        return find(working_set, request.id) or refusal(request.id)
    for find, _ in _KINDS.values():
        if reply := find(working_set, request.id):
            return reply
    return ErrorReply("not_found", f"there is no event, booking or ticket {request.id}")


def bookings(working_set: WorkingSet, _request: Bookings) -> Reply:
    """Show a page of bookings."""
    return BookingsReply([_record(working_set, booking) for booking in working_set.page], working_set.more)


def _record(working_set: WorkingSet, booking: Booking) -> BookingRecord:
    # A BookingReply is BookingFacts and one field more.
    record = BookingRecord(*msgspec.structs.astuple(booking_reply(booking))[:-1])
    record.redeemed, record.redeemed_at = _redeemed(working_set, booking)
    if booking.changes or booking.seconds is not None:
        expires = None if booking.expires is None else time_of(booking.expires)
        record.made = Made(booking.available, booking.version, booking.seconds, expires)
        # A tuple: the encoder omits an empty one, since it is the default, but not an empty list.
        record.changes = tuple(
            msgspec.structs.replace(change, tickets=ticket_ids(booking, change.tickets))
            for change in booking.changes or ()
        )
    return record


def _redeemed(working_set: WorkingSet, booking: Booking) -> tuple[Sequence[str], Sequence[datetime]]:
    """Return the ids of the tickets of a booking that were redeemed, and when."""
    redeemed = working_set.redemptions.get(booking.id)
    if not redeemed:
        return (), ()
    tickets = [ticket for ticket in booking.tickets if ticket in redeemed]
    return ticket_ids(booking, tickets), [time_of(redeemed[ticket]) for ticket in tickets]
