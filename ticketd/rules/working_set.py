"""The read set (what a batch of requests has to read) and the working set (what it has read and changed). Pure.

A ledger fills the working set with what the read set names, ``commands.decide_all`` decides and changes it, and the
ledger saves the changes.
"""

import math
from collections.abc import Callable, Iterable
from typing import ClassVar, NamedTuple

from msgspec import Struct

from ticketd.model import Booking, Change, Event, Redemption
from ticketd.wire.requests import Request

# A page of bookings has at most this many tickets, unless it is a single booking.
TICKETS_PER_PAGE = 1_000


class Adopt(Struct):
    """Adopt an event of events.json, unless the ledger has one with its id. No client can send this."""

    minted: ClassVar[str | None] = None

    event: Event


# A request to a ledger: one of a client, with all ids minted, or Adopt.
LedgerRequest = Request | Adopt


class Page(NamedTuple):
    """At most ``limit`` bookings in the order of their ids, after the id ``after``."""

    after: str
    limit: int


class ReadSet:
    """The ids of what a batch reads. A ledger reads the events of the bookings too.

    ``new_bookings`` are ids of bookings to create. If one exists, it is not changed, so its event is not locked.
    ``redemptions`` are tickets, each with its booking; of the bookings ``redemptions_of``, all tickets are read.
    """

    def __init__(self) -> None:
        self.events: set[str] = set()
        self.bookings: set[str] = set()
        self.new_bookings: set[str] = set()
        self.redemptions: set[tuple[str, str]] = set()
        self.redemptions_of: set[str] = set()
        self.page: Page | None = None


class WorkingSet:
    """The events, bookings and redemptions that a batch touches, and which of them it changed.

    ``new_ticket`` mints the last parts of the ids of tickets. ``now`` is the time of the batch, in milliseconds since
    1970. ``due`` is how many tickets of an event are in holds that have run out by then. ``redemptions`` are by booking
    and ticket. ``more`` says that there are bookings after those of the ``page``. ``events_left`` is how many new
    events there is room for.
    """

    def __init__(self, new_ticket: Callable[[], str], now: int) -> None:
        self.new_ticket = new_ticket
        self.now = now
        self.events: dict[str, Event] = {}
        self.bookings: dict[str, Booking] = {}
        self.redemptions: dict[str, dict[str, int]] = {}
        self.due: dict[str, int] = {}
        self.page: list[Booking] = []
        self.more = False
        self.events_left: float = math.inf
        self.changed_events: dict[str, Event] = {}
        self.changed_bookings: dict[str, Booking] = {}
        self.new_redemptions: list[Redemption] = []
        # By event, the change that ended its due holds. The ledger saves it in all of these bookings.
        self.expired: dict[str, Change] = {}

    @property
    def changed(self) -> bool:
        """Whether there is anything to save."""
        return bool(self.changed_events or self.new_redemptions)

    def put_event(self, event: Event) -> None:
        """Record an event as changed."""
        self.events[event.id] = self.changed_events[event.id] = event

    def put_new_event(self, event: Event) -> bool:
        """Record a new event, and return True; or return False if there are as many events as there may be."""
        if self.events_left < 1:
            return False
        self.events_left -= 1
        self.put_event(event)
        return True

    def put_booking(self, booking: Booking) -> None:
        """Record a booking as new or changed. Its event has changed too."""
        self.bookings[booking.id] = self.changed_bookings[booking.id] = booking

    def fill_page(self, page: Page, bookings: Iterable[Booking]) -> None:
        """Add bookings, which are in the order of their ids, until the page is full."""
        tickets = 0
        for booking in bookings:
            tickets += len(booking.tickets)
            if len(self.page) == page.limit or (self.page and tickets > TICKETS_PER_PAGE):
                self.more = True
                break
            self.page.append(booking)
            self.bookings[booking.id] = booking

    def redeem(self, redemption: Redemption) -> None:
        """Record a redemption."""
        self.redemptions.setdefault(redemption.booking, {})[redemption.ticket] = redemption.at
        self.new_redemptions.append(redemption)
