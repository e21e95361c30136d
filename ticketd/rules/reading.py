"""Answers the commands that only read what is committed, from memory or from the ledger."""

import msgspec
from msgspec import UNSET

from ticketd.errors import TicketError
from ticketd.model import Booking, opt_time_of, ticket_parts
from ticketd.rules.memory import Memory
from ticketd.rules.showing import (
    booking_reply,
    changes_of,
    event_reply,
    no_booking,
    no_event,
    no_ticket,
    show_redeemed,
    ticket_reply,
)
from ticketd.rules.working_set import ReadWatched, WorkingSet
from ticketd.wire.commands import help_reply
from ticketd.wire.replies import (
    BookingFacts,
    BookingRecord,
    BookingReply,
    BookingsReply,
    ErrorReply,
    Made,
    PongReply,
    Reply,
)
from ticketd.wire.requests import Backup, Bookings, Help, List, Ping, Ready, Show, Stats, Watch


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
    return _with_history(working_set, booking)


def _ticket(working_set: WorkingSet, id: str) -> Reply | None:
    booking_id, ticket = ticket_parts(id)
    booking = working_set.bookings.get(booking_id)
    if booking is None or not booking.had(ticket):
        return None
    history = working_set.history(booking_id, ticket)
    reply = ticket_reply(booking, ticket, history)
    if reply.redeemed_at is not None:
        reply.by = history[-1].actor
    for facts, redemption in zip(reply.history, history, strict=False):
        facts.by = redemption.actor
    return reply


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


def watches_events(_memory: Memory, request: Watch) -> bool:
    """Whether ``watch`` is of events, which are in memory."""
    return request.booking is UNSET


def watch_events(memory: Memory, request: Watch) -> bytes:
    """Begin to watch events. The connection streams them. Raises TicketError if there is no such event."""
    if request.event and memory.event(request.event) is None:
        raise TicketError("event_not_found", f"there is no event {request.event} to watch; list shows the events")
    return b""


def watch_booking(working_set: WorkingSet, request: Watch) -> Reply:
    """Show the booking that the connection watches from now on."""
    id = str(request.booking)
    return _booking(working_set, id) or no_booking(id)


def read_watched(working_set: WorkingSet, request: ReadWatched) -> Reply:
    """Show bookings that are watched."""
    there = (working_set.bookings.get(id) for id in request.bookings)
    return BookingsReply([_facts(working_set, booking) for booking in there if booking])


def bookings(working_set: WorkingSet, request: Bookings) -> Reply:
    """Show a page of bookings."""
    if request.event is not UNSET and request.event not in working_set.events:
        # An event with bookings is never deleted.
        return no_event(request.event)
    records = [_record(working_set, booking) for booking in working_set.page]
    return BookingsReply(records, working_set.last is not None, working_set.last)


def backup(working_set: WorkingSet, request: Backup) -> Reply:
    """Say what became of a backup."""
    assert working_set.backup, request
    return working_set.backup


def _facts(working_set: WorkingSet, booking: Booking) -> BookingRecord:
    # A BookingReply has the fields of BookingFacts first.
    facts = msgspec.structs.astuple(_with_history(working_set, booking))[: len(BookingFacts.__struct_fields__)]
    return BookingRecord(*facts)


def _record(working_set: WorkingSet, booking: Booking) -> BookingRecord:
    record = _facts(working_set, booking)
    if booking.changes or booking.seconds is not None:
        expires = None if booking.waited else opt_time_of(booking.first_expires)
        record.made = Made(booking.available, booking.version, booking.seconds, expires)
    return record


def _with_history(working_set: WorkingSet, booking: Booking) -> BookingReply:
    reply = booking_reply(booking)
    reply.changes = changes_of(booking)
    reply.by = booking.actor
    reply.position = working_set.positions.get(booking.id)
    names = [redemption.actor for redemption in show_redeemed(working_set, booking, reply)]
    if any(names):
        reply.redeemed_by = names
    return reply
