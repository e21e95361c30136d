"""Owns the committed events in memory, and a cache of their encoded replies: ``list`` is the most frequent request.

Events come from commits and are never changed here. Nothing here waits.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import compress

from msgspec import UNSET

from ticketd.errors import TicketError
from ticketd.model import Event, opt_time_of
from ticketd.wire.codec import encode, encode_event, encode_events
from ticketd.wire.replies import EventFacts
from ticketd.wire.requests import List
from ticketd.wire.requests.fields import EVENTS_PER_PAGE_MAX

# Up to so many events are removed one by one. More of them are removed from a copy, which takes longer than a commit if
# there are many other events.
FEW = 100


class Catalogue:
    """The committed events by id, in the order of creation."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events: dict[str, Event] = {}
        # The encoded events. One that is not encoded yet as it is now is b"".
        self._encoded: dict[str, bytes] = {}
        # The ids and the numbers of the events, by position. Numbers grow, and stay when events before are removed.
        self._ids: list[str] = []
        self._numbers: list[int] = []
        self._number_of: dict[str, int] = {}
        self._first_page: bytes | None = None
        # Grows with each change, so that the owner of a copy knows whether it is current.
        self.revision = 0
        self._on_changes: list[Callable[[Iterable[str]], None]] = []
        self._on_removals: list[Callable[[Mapping[str, int]], None]] = []
        self.publish(events)

    def __len__(self) -> int:
        return len(self._events)

    def on_changes(self, call: Callable[[Iterable[str]], None]) -> None:
        """Call this after each publication, with the ids of its events."""
        self._on_changes.append(call)

    def on_removals(self, call: Callable[[Mapping[str, int]], None]) -> None:
        """Call this after each removal, with the ids of its events, and the positions that they had."""
        self._on_removals.append(call)

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
            if event_id not in self._number_of:
                number = self._numbers[-1] + 1 if self._numbers else 0
                self._number_of[event_id] = number
                self._ids.append(event_id)
                self._numbers.append(number)
            self._encoded[event_id] = b""
        self._events |= news
        self._first_page = None
        self.revision += 1
        for call in self._on_changes:
            call(news)

    def remove(self, ids: Collection[str]) -> int:
        """Forget events, and return how many. Those that are not known are ignored."""
        removed = {event_id: self.position(event_id) for event_id in ids if event_id in self._events}
        if not removed:
            return 0
        if len(removed) > FEW:
            stay = [event_id not in removed for event_id in self._ids]
            self._ids, self._numbers = list(compress(self._ids, stay)), list(compress(self._numbers, stay))
        else:
            for position in sorted(removed.values(), reverse=True):
                del self._ids[position], self._numbers[position]
        for event_id in removed:
            del self._events[event_id], self._encoded[event_id], self._number_of[event_id]
        self._first_page = None
        self.revision += 1
        for call in self._on_removals:
            call(removed)
        return len(removed)

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
            if request.after not in self._events:
                raise TicketError("event_not_found", f"there is no event {request.after} to list after")
            start = self.position(request.after) + 1
        end = start + (EVENTS_PER_PAGE_MAX if request.limit is UNSET else request.limit)
        page = encode_events(self._encode(start, end), more=end < len(self._ids))
        if first:
            self._first_page = page
        return page

    def position(self, event_id: str) -> int:
        """Return the position of a known event, from 0."""
        return bisect_left(self._numbers, self._number_of[event_id])

    def event_line(self, event_id: str) -> bytes:
        """Return a known event as the line that ``watch`` sends."""
        return encode_event(self._encoded[event_id] or self._encode_anew(event_id)) + b"\n"

    def event_lines(self, start: int, end: int) -> bytes:
        """Return the events from one position to another, in the order of creation, as ``watch`` sends them."""
        return b"".join([encode_event(facts) + b"\n" for facts in self._encode(start, end)])

    def _encode(self, start: int, end: int) -> list[bytes]:
        """Return the encoded events at these positions. Encodes those that have changed, and no others."""
        encoded = self._encoded
        return [encoded[event_id] or self._encode_anew(event_id) for event_id in self._ids[start:end]]

    def _encode_anew(self, event_id: str) -> bytes:
        facts = self._encoded[event_id] = _encoded(self._events[event_id])
        return facts


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
            event.waiting,
        )
    )
