"""Reads all pages of a list, as one reply."""

from ticketctl.client import CannotConnectError, Client
from ticketd.wire.replies import EventFacts, EventsReply, Reply
from ticketd.wire.requests import List, Request


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


def endless(client: Client) -> CannotConnectError:
    """Return the error for a page that has nothing new and says that more follow: asking on would never end."""
    return CannotConnectError(f"{client.address} sent a page with nothing new that says that more follow")
