"""The committed events in memory, with the encoded ``list``: the cache for the request that everybody repeats.

Events are handed over by commits and never changed here. Nothing in it waits.
"""

from collections.abc import Callable, Iterable

import msgspec
from msgspec import UNSET

from ticketd.errors import TicketError
from ticketd.model import Event
from ticketd.protocol import EventFacts, List, encode, encode_event, encode_events


class Catalogue:
    """The committed events by id, in the order of creation."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events: dict[str, Event] = {}
        self._positions: dict[str, int] = {}
        self._encoded: list[bytes] = []
        self._stale: set[str] = set()
        self._whole_list: bytes | None = None
        # Grows with every publication, so that whoever copies the catalogue can tell whether it has changed.
        self.revision = 0
        self._subscribers: list[Callable[[Iterable[str]], None]] = []
        self.publish(events)

    def __len__(self) -> int:
        return len(self._events)

    def subscribe(self, subscriber: Callable[[Iterable[str]], None]) -> None:
        """Call it with the ids of the events of each publication, right after it."""
        self._subscribers.append(subscriber)

    def publish(self, events: Iterable[Event]) -> None:
        """Take over events as a commit left them, unless a later one is known already."""
        news: dict[str, Event] = {}
        for event in events:
            known = news.get(event.id) or self._events.get(event.id)
            if known is None or known.version < event.version:
                news[event.id] = event
        if not news:
            return
        for event_id in news:
            if event_id not in self._events:
                self._positions[event_id] = len(self._encoded)
                self._encoded.append(b"")
        self._events |= news
        # Not with |=, which would make a new set of all.
        self._stale.update(news)
        self._whole_list = None
        self.revision += 1
        for subscriber in self._subscribers:
            subscriber(news)

    def get(self, event_id: str) -> Event | None:
        """Return the event, or None."""
        return self._events.get(event_id)

    def events(self) -> list[Event]:
        """Return all events in the order of creation."""
        return list(self._events.values())

    def list_frame(self, request: List) -> bytes:
        """Return the encoded reply to ``list``, or raise TicketError (event_not_found) for an unknown ``after``."""
        whole = request.after is UNSET and request.limit is UNSET
        if whole and self._whole_list is not None:
            return self._whole_list
        encoded = self._fresh()
        if whole:
            self._whole_list = encode_events(encoded)
            return self._whole_list
        start = 0
        if request.after is not UNSET:
            if request.after not in self._positions:
                raise TicketError("event_not_found", f"there is no event {request.after} to list after")
            start = self._positions[request.after] + 1
        end = None if request.limit is UNSET else start + request.limit
        return encode_events(encoded[start:end])

    def event_frame(self, event_id: str) -> bytes:
        """Return an event that is known, as the encoded reply that ``watch`` sends."""
        return encode_event(self._fresh()[self._positions[event_id]])

    def event_frames(self) -> list[bytes]:
        """Return all events so, in the order of creation."""
        return list(map(encode_event, self._fresh()))

    def _fresh(self) -> list[bytes]:
        """Return the encoded events; what has changed since the last time is encoded now."""
        for event_id in self._stale:
            facts = msgspec.convert(self._events[event_id], EventFacts, from_attributes=True)
            self._encoded[self._positions[event_id]] = encode(facts)
        self._stale.clear()
        return self._encoded
