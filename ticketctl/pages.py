"""Reads all pages of a reply that has several, as one reply."""

from ticketctl.client import CannotConnectError, Client
from ticketd.wire.replies import EventFacts, EventsReply, Reply
from ticketd.wire.requests import List, Request


def ask(client: Client, request: Request) -> Reply:
    """Ask, and return the reply. That to a ``list`` without a limit has all events. Raises what ``Client.ask`` does."""
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
            raise no_end(client)
        reply = client.ask(List(next(reversed(events))))
    return reply


def no_end(client: Client) -> CannotConnectError:
    """Return the error for a page without news that says that more follow: it would be asked for again for ever."""
    return CannotConnectError(f"{client.address} answered a page without news, and says that more follow")
