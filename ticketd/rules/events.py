"""Decides ``create`` and ``amend``, and adopts events that people wrote into events.json."""

import msgspec
from msgspec import UNSET

from ticketd.model import Event
from ticketd.rules.working_set import Adopt, WorkingSet
from ticketd.wire.replies import ErrorReply, EventReply, Reply
from ticketd.wire.requests import Amend, Create


def event_reply(event: Event, *, replayed: bool = False) -> EventReply:
    """Return the reply that shows an event."""
    reply = msgspec.convert(event, EventReply, from_attributes=True)
    reply.replayed = replayed
    return reply


def no_event(event: str) -> ErrorReply:
    """Return the refusal for an event that does not exist."""
    return ErrorReply("event_not_found", f"there is no event {event}; list shows the events")


def create(working_set: WorkingSet, request: Create) -> Reply:
    """Create an event."""
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
        version=0,
        sold_elsewhere=elsewhere,
    )
    known = working_set.events.get(wanted.id)
    if known is None:
        return event_reply(wanted) if working_set.put_new_event(wanted) else _too_many(wanted)
    original = known.original or (known.name, known.date, known.capacity)
    if original == (wanted.name, wanted.date, wanted.capacity) and known.sold_elsewhere == elsewhere:
        # The original reply: the event as it was when it was created.
        return event_reply(wanted, replayed=True)
    return ErrorReply("event_exists", f"event {wanted.id} exists already and differs from this one; choose another id")


def adopt(working_set: WorkingSet, request: Adopt) -> Reply:
    """Adopt an event of events.json, unless the ledger has an event with its id."""
    known = working_set.events.get(request.event.id)
    # A copy, since deciding changes what is in the working set, and the batch may be tried again.
    if known is None and not working_set.put_new_event(msgspec.structs.replace(request.event)):
        return _too_many(request.event)
    return event_reply(known or request.event)


def _too_many(event: Event) -> ErrorReply:
    return ErrorReply(
        "too_many_events",
        f"there is no room for event {event.id}: the catalogue has as many events as --events-max allows;"
        " whoever runs the daemon can raise it",
    )


def amend(working_set: WorkingSet, request: Amend) -> Reply:
    """Change the name, the date or the capacity of an event."""
    event = working_set.events.get(request.event)
    if event is None:
        return no_event(request.event)
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
    working_set.put_event(event)
    return event_reply(event)
