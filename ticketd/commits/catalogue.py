"""Owns the committed events in memory, and a cache of their encoded replies: ``list`` is the most frequent request.

Events come from commits and are never changed here. Nothing here waits.
"""

from collections.abc import Callable, Iterable

import msgspec
from msgspec import UNSET

from ticketd.errors import TicketError
from ticketd.model import Event
from ticketd.wire.codec import encode, encode_event, encode_events
from ticketd.wire.replies import EventFacts
from ticketd.wire.requests import List


class Catalogue:
    """The committed events by id, in the order of creation."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events: dict[str, Event] = {}
        self._positions: dict[str, int] = {}
        self._encoded: list[bytes] = []
        self._stale: set[str] = set()
        self._whole_list: bytes | None = None
        # Grows with each change, so that the owner of a copy knows whether it is current.
        self.revision = 0
        self._subscribers: list[Callable[[Iterable[str]], None]] = []
        self.publish(events)

    def __len__(self) -> int:
        return len(self._events)

    def subscribe(self, subscriber: Callable[[Iterable[str]], None]) -> None:
        """Call ``subscriber`` after each publication, with the ids of its events."""
        self._subscribers.append(subscriber)

    def publish(self, events: Iterable[Event]) -> None:
        """Take over committed events, except those of which the same or a later version is known."""
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
        # ``|=`` would first build another set.
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
        encoded = self._encode_stale()
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
        """Return a known event as the encoded reply that ``watch`` sends."""
        return encode_event(self._encode_stale()[self._positions[event_id]])

    def event_frames(self) -> list[bytes]:
        """Return all events as encoded replies that ``watch`` sends, in the order of creation."""
        return list(map(encode_event, self._encode_stale()))

    def _encode_stale(self) -> list[bytes]:
        """Encode the events that have changed since the last call, and return all encoded events."""
        for event_id in self._stale:
            facts = msgspec.convert(self._events[event_id], EventFacts, from_attributes=True)
            self._encoded[self._positions[event_id]] = encode(facts)
        self._stale.clear()
        return self._encoded
