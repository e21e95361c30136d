"""Owns the committed events in memory, and a cache of their encoded replies: ``list`` is the most frequent request.

Events come from commits and are never changed here. Nothing here waits.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import UNSET

from ticketd.errors import TicketError
from ticketd.model import Event, opt_time_of
from ticketd.wire.codec import encode, encode_event, encode_events
from ticketd.wire.replies import EventFacts
from ticketd.wire.requests import EVENTS_PER_PAGE_MAX, List


class Catalogue:
    """The committed events by id, in the order of creation."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events: dict[str, Event] = {}
        # The ids and the encoded events, by position. An event that is not encoded yet as it is now is b"".
        self._ids: list[str] = []
        self._encoded: list[bytes] = []
        self._positions: dict[str, int] = {}
        self._first_page: bytes | None = None
        # Grows with each change, so that the owner of a copy knows whether it is current.
        self.revision = 0
        self._on_changes: Callable[[Iterable[str]], None] = lambda events: None
        self._on_removals: Callable[[Mapping[str, int]], None] = lambda positions: None
        self.publish(events)

    def __len__(self) -> int:
        return len(self._events)

    def subscribe(
        self, on_changes: Callable[[Iterable[str]], None], on_removals: Callable[[Mapping[str, int]], None]
    ) -> None:
        """Call these after each publication, with the ids of its events, and after a removal, with former positions."""
        self._on_changes, self._on_removals = on_changes, on_removals

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
            position = self._positions.setdefault(event_id, len(self._ids))
            if position == len(self._ids):
                self._ids.append(event_id)
                self._encoded.append(b"")
            else:
                self._encoded[position] = b""
        self._events |= news
        self._first_page = None
        self.revision += 1
        self._on_changes(news)

    def remove(self, ids: Collection[str]) -> None:
        """Forget events. Those that are not known are ignored."""
        removed = {event_id: self._positions[event_id] for event_id in ids if event_id in self._events}
        if not removed:
            return
        self._encoded = [self._encoded[position] for id, position in self._positions.items() if id not in removed]
        self._ids = [event_id for event_id in self._ids if event_id not in removed]
        self._positions = {event_id: position for position, event_id in enumerate(self._ids)}
        self._events = {event_id: self._events[event_id] for event_id in self._ids}
        self._first_page = None
        self.revision += 1
        self._on_removals(removed)

    def get(self, event_id: str) -> Event | None:
        """Return the event, or None."""
        return self._events.get(event_id)

    def events(self) -> list[Event]:
        """Return all events in the order of creation."""
        return list(self._events.values())

    def list_frame(self, request: List) -> bytes:
        """Return the encoded reply to ``list``, or raise TicketError (event_not_found) for an unknown ``after``."""
        first = request.after is UNSET and request.limit is UNSET
        if first and self._first_page is not None:
            return self._first_page
        start = 0
        if request.after is not UNSET:
            if request.after not in self._positions:
                raise TicketError("event_not_found", f"there is no event {request.after} to list after")
            start = self._positions[request.after] + 1
        end = start + (EVENTS_PER_PAGE_MAX if request.limit is UNSET else request.limit)
        page = encode_events(self._encode(start, end), more=end < len(self._encoded))
        if first:
            self._first_page = page
        return page

    def position(self, event_id: str) -> int:
        """Return the position of a known event, from 0."""
        return self._positions[event_id]

    def event_line(self, event_id: str) -> bytes:
        """Return a known event as the line that ``watch`` sends."""
        position = self._positions[event_id]
        return self.event_lines(position, position + 1)

    def event_lines(self, start: int, end: int) -> bytes:
        """Return the events from one position to another, in the order of creation, as ``watch`` sends them."""
        return b"".join([encode_event(facts) + b"\n" for facts in self._encode(start, end)])

    def _encode(self, start: int, end: int) -> list[bytes]:
        """Return the encoded events at these positions. Encodes those that have changed, and no others."""
        page = self._encoded[start:end]
        for position, facts in enumerate(page, start):
            if not facts:
                page[position - start] = self._encoded[position] = _encoded(self._events[self._ids[position]])
        return page


def _encoded(event: Event) -> bytes:
    return encode(
        EventFacts(
            event.id,
            event.name,
            event.date,
            event.capacity,
            event.available,
            event.held,
            event.sold,
            event.version,
            opt_time_of(event.opens),
            opt_time_of(event.closes),
            event.paused,
            event.per_buyer,
        )
    )
