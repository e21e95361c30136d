"""Decides ``create``, ``amend`` and ``delete``, and adopts events that people wrote into events.json."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ticketd.model import Event, milliseconds
from ticketd.rules.showing import event_reply, no_event
from ticketd.rules.working_set import Adopt, WorkingSet
from ticketd.wire.replies import ErrorReply, Reply
from ticketd.wire.requests import Amend, Create, Delete


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
        opens=_opt_milliseconds(request.opens),
        closes=_opt_milliseconds(request.closes),
        paused=request.paused,
        per_buyer=request.per_buyer or None,
    )
    known = working_set.events.get(wanted.id)
    if known is None:
        return event_reply(wanted) if working_set.put_new_event(wanted) else _too_many(wanted)
    if (known.original or known.terms) == wanted.terms and known.sold_elsewhere == elsewhere:
        # The original reply: the event as it was when it was created.
        return event_reply(wanted, replayed=True)
    return ErrorReply("event_exists", f"event {wanted.id} exists already and differs from this one; choose another id")


def adopt(working_set: WorkingSet, request: Adopt) -> Reply:
    """Adopt an event of events.json, unless the ledger has an event with its id."""
    known = working_set.events.get(request.event.id)
    if known is None and request.event.id in working_set.removed:
        # It was removed, and leaves the file too when that is written next.
        return event_reply(request.event)
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
    """Change the name, date, capacity or sale of an event."""
    event = working_set.events.get(request.event)
    if event is None:
        return no_event(request.event)
    before = event.terms
    given: dict[str, Any] = {name: _as_kept(name, value) for name, value in request.given.items()}
    after = before._replace(**given)
    if after == before:
        return event_reply(event, replayed=True)
    if after.opens is not None and after.closes is not None and after.closes <= after.opens:
        return ErrorReply("bad_request", f"closes must be later than opens; see show {event.id} for the other one")
    floor = event.sold + event.held
    if after.capacity < floor:
        return ErrorReply(
            "capacity_below_sold",
            f"event {event.id} has {event.sold} sold and {event.held} held; its capacity must be at least {floor}",
            available=event.available,
            version=event.version,
        )
    event.original = event.original or before
    event.name, event.date, event.capacity, event.opens, event.closes, event.paused, event.per_buyer = after
    event.available = event.capacity - floor
    event.amendments += 1
    event.version += 1
    working_set.put_terms(event)
    return event_reply(event)


def _as_kept(name: str, value: object) -> object:
    return milliseconds(value) if name in ("opens", "closes") and isinstance(value, datetime) else value


def delete(working_set: WorkingSet, request: Delete) -> Reply:
    """Remove an event of which no ticket was ever sold, held or waited for."""
    event = working_set.events.get(request.event)
    if event is None:
        return no_event(request.event)
    if event.sold or event.held or event.version != event.amendments:
        return ErrorReply(
            "event_in_use",
            f"tickets of event {event.id} were sold, held or waited for, so it stays;"
            f" to stop its sale, amend {event.id} --paused",
            available=event.available,
            version=event.version,
        )
    working_set.delete_event(event)
    return event_reply(event)


def _opt_milliseconds(time: datetime | UnsetType | None) -> int | None:
    return milliseconds(time) if isinstance(time, datetime) else None
