"""Reads all pages of a list: as one reply, or one after the other."""

from collections.abc import Iterator
from typing import TypeVar

import msgspec
from msgspec import UNSET

from ticketctl.client import CannotConnectError, Client, RefusedError
from ticketctl.facts import last_of
from ticketd.wire.replies import BookingsReply, ErrorReply, EventFacts, EventsReply, Reply
from ticketd.wire.requests import Bookings, List, Request

R = TypeVar("R", bound=Reply)


def one(client: Client, request: Request, kind: type[R]) -> R:
    """Ask, and return the reply, which is of this kind. Raises what ``Client.ask`` does, and RefusedError."""
    reply = client.ask(request)
    if isinstance(reply, ErrorReply):
        raise RefusedError(reply)
    assert isinstance(reply, kind)
    return reply


def ask(client: Client, request: Request) -> Reply:
    """Ask, and return the reply; for a ``list`` without a limit, a reply with the events of all pages.

    Raises what ``Client.ask`` does, and CannotConnectError if the pages have no end.
    """
    reply = client.ask(request)
    if not isinstance(request, List) or request.limit:
        return reply
    events: dict[str, EventFacts] = {}
    while isinstance(reply, EventsReply):
        known = len(events)
        events |= {event.id: event for event in reply.events}
        if not reply.more:
            return EventsReply(list(events.values()))
        if len(events) == known:
            raise endless(client)
        reply = client.ask(List(next(reversed(events))))
    return reply


def bookings(client: Client, request: Bookings) -> Iterator[BookingsReply]:
    """Yield the page that is asked for and all after it. Holds one of them at a time.

    Raises CannotConnectError, also if the pages have no end, and RefusedError.
    """
    while True:
        page = one(client, request, BookingsReply)
        yield page
        if not page.more:
            return
        last = last_of(page)
        # Bookings come in the order of their ids.
        if last is None or (request.after is not UNSET and last <= request.after):
            raise endless(client)
        request = msgspec.structs.replace(request, after=last)


def endless(client: Client) -> CannotConnectError:
    """Return the error for a page that has nothing new and says that more follow: asking on would never end."""
    return CannotConnectError(f"{client.where} sent a page with nothing new that says that more follow")


def counted(number: int, what: str) -> str:
    """Return how many there are, such as ``1,204 bookings``; ``what`` is in the plural."""
    return f"{number:,} {what if number != 1 else what.removesuffix('s')}"


def incomplete(why: str, after: str) -> str:
    """Return the message for an error that ended what was written, after so much of it."""
    return f"{why}{'' if why[-1:] in '.?!' else '.'} The output is incomplete: it ends after {after}"
