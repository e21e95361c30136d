"""The read set (what a batch of requests has to read) and the working set (what it has read and changed). Pure.

A ledger fills the working set with what the read set names, ``commands.decide_all`` decides and changes it, and the
ledger saves the changes.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from msgspec import Struct

from ticketd.model import HOLD_SECONDS_TOTAL_MAX_DEFAULT, TICKETS_PER_BOOKING_MAX, Booking, Change, Event, Redemption
from ticketd.rules.waiting_list import WaitingList
from ticketd.wire.replies import BackupReply, ErrorReply
from ticketd.wire.requests import Request

# A page of bookings has at most this many tickets and changes of them, unless it is a single booking.
TICKETS_PER_PAGE = 1_000
# A page of the bookings of one event or buyer is searched for among so many, so that it never takes long.
BOOKINGS_SEARCHED = 2_000


class Adopt(Struct):
    """Adopt an event of events.json, unless the ledger has one with its id. No client can send this."""

    minted: ClassVar[str | None] = None

    event: Event


class ReadWatched(Struct):
    """Read these bookings, if they exist, for the connections that watch them. No client can send this."""

    minted: ClassVar[str | None] = None

    bookings: list[str]


# A request to a ledger: one of a client, with all ids minted, or one of the daemon itself.
LedgerRequest = Request | Adopt | ReadWatched


class Page(NamedTuple):
    """At most ``limit`` bookings in the order of their ids, after the id ``after``.

    If there is an ``event`` or a ``buyer``, only those of it, among the next BOOKINGS_SEARCHED.
    """

    after: str
    limit: int
    event: str | None = None
    buyer: str | None = None

    @property
    def searches(self) -> bool:
        """Whether it is a page of one event or buyer only, for which bookings have to be searched."""
        return self.event is not None or self.buyer is not None


class ReadSet:
    """The ids of what a batch reads. A ledger reads the events of the bookings too.

    ``new_bookings`` are ids of bookings to create. If one exists, it is not changed, so its event is not locked.
    ``redemptions`` are tickets, each with its booking; of the bookings ``redemptions_of``, all tickets are read.
    ``buyers`` are by event: if the event has a limit per buyer, or is one of ``limited``, it is read how many tickets
    they have. That is read for the bookings ``buyers_of`` too. ``removals`` are events that may have been removed.
    ``amended`` are events that may be amended, with the highest of their new capacities; 0 if there is none. Of the
    bookings ``freed``, tickets may become available. ``joining`` are those that may join a line, each with its event
    and quantity. ``turns`` are the events whose tickets can be offered to those who wait, as far as the ledger
    knows. ``backup`` is the name of a backup that is to be written.
    """

    def __init__(self) -> None:
        self.events: set[str] = set()
        self.bookings: set[str] = set()
        self.new_bookings: set[str] = set()
        self.redemptions: set[tuple[str, str]] = set()
        self.redemptions_of: set[str] = set()
        self.buyers: dict[str, set[str]] = {}
        self.buyers_of: set[str] = set()
        self.limited: set[str] = set()
        self.removals: set[str] = set()
        self.amended: dict[str, int] = {}
        self.freed: set[str] = set()
        self.turns: set[str] = set()
        self.joining: dict[str, tuple[str, int]] = {}
        self.page: Page | None = None
        self.backup: str | None = None

    def limited_buyers(self, events: Mapping[str, Event], bookings: Mapping[str, Booking]) -> dict[str, set[str]]:
        """Return the buyers whose tickets must be counted, by event. ``bookings`` are those that were read."""
        buyers = self.buyers.copy()
        for id in self.buyers_of:
            booking = bookings.get(id)
            if booking and booking.buyer is not None:
                buyers[booking.event] = buyers.get(booking.event, set()) | {booking.buyer}
        return {
            id: of
            for id, of in buyers.items()
            if (event := events.get(id)) and (event.per_buyer is not None or id in self.limited)
        }


class WorkingSet:
    """The events, bookings and redemptions that a batch touches, and which of them it changed.

    ``new_ticket`` mints the last parts of the ids of tickets. ``now`` is the time of the batch, in milliseconds since
    1970. ``due`` is how many tickets of an event are in holds that have run out by then. ``redemptions`` are by booking
    and ticket, the first one of a ticket first. ``owned`` is how many tickets a buyer of an event with a limit has, and
    ``spare`` is how many more such a buyer could have had before the batch, and still get all that the batch grants.
    ``removed`` are events that were removed. ``last`` says that there may be more bookings than those of the ``page``,
    after the one with this id. ``events_left`` is how many new events there is room for, and
    ``hold_seconds_total_max`` how long a hold may last in all. ``backup`` is what became of the backup.

    ``waiting_lists`` are those of all its events that have one. ``positions`` are the places in line of bookings
    that are waiting, as far as they are to be shown. Of ``unserved`` events, more could be offered to those who wait
    than one batch offers: until the next batch does, the public gets none of it.
    """

    def __init__(self, new_ticket: Callable[[], str], now: int) -> None:
        self.new_ticket = new_ticket
        self.now = now
        # The name of whoever sent the request that is being decided.
        self.actor: str | None = None
        self.events: dict[str, Event] = {}
        self.bookings: dict[str, Booking] = {}
        self.redemptions: dict[str, dict[str, list[Redemption]]] = {}
        self.owned: dict[tuple[str, str], int] = {}
        # Buyers who had more tickets than any limit allows, so that not all of them were counted.
        self.uncounted: set[tuple[str, str]] = set()
        self.spare: dict[tuple[str, str], float] = {}
        self.removed: set[str] = set()
        self.due: dict[str, int] = {}
        self.page: list[Booking] = []
        self.last: str | None = None
        self.backup: BackupReply | ErrorReply | None = None
        self.events_left: float = math.inf
        self.hold_seconds_total_max = HOLD_SECONDS_TOTAL_MAX_DEFAULT
        # How many tickets the replies of the batch list so far, for bookings that were redeemed as a whole.
        self.tickets_listed = 0
        self.waiting_lists: dict[str, WaitingList] = {}
        # The events with a waiting list that have changed since their tickets were last offered.
        self.changed_waiting_lists: set[str] = set()
        self.positions: dict[str, int] = {}
        self.unserved: set[str] = set()
        # Bookings whose turn came: they were offered their tickets, or evicted since their buyer may not have them.
        self.offered: list[Booking] = []
        self.evicted: list[Booking] = []
        self.changed_events: dict[str, Event] = {}
        # The ids of events that are new or were amended. Of the other changed events, only counts are saved.
        self.changed_terms: set[str] = set()
        self.changed_bookings: dict[str, Booking] = {}
        self.new_redemptions: list[Redemption] = []
        # The events that the batch removes. They may be created again later in it.
        self.deleted_events: set[str] = set()
        # By event, the change that ended its due holds. The ledger saves it in all of these bookings.
        self.expired: dict[str, Change] = {}

    @property
    def changed(self) -> bool:
        """Whether there is anything to save."""
        return bool(self.changed_events or self.new_redemptions or self.deleted_events)

    def put_terms(self, event: Event) -> None:
        """Record an event that is new, or was amended."""
        self.changed_terms.add(event.id)
        self.put_event(event)

    def put_event(self, event: Event) -> None:
        """Record an event of which only the counts have changed. For all else, there is ``put_terms``."""
        self.events[event.id] = self.changed_events[event.id] = event
        if self.waiting_lists and event.id in self.waiting_lists:
            self.changed_waiting_lists.add(event.id)

    def put_new_event(self, event: Event) -> bool:
        """Record a new event, and return True; or return False if there are as many events as there may be."""
        if self.events_left < 1:
            return False
        self.events_left -= 1
        self.put_terms(event)
        return True

    def count_owned(self, event: str, buyer: str, tickets: int) -> None:
        """Record how many tickets of an event a buyer has. Past the highest limit, not all of them were counted."""
        self.owned[event, buyer] = tickets
        if tickets > TICKETS_PER_BOOKING_MAX:
            self.uncounted.add((event, buyer))

    def own(self, event: str, buyer: str, tickets: int) -> None:
        """Add to the number of tickets that a buyer of an event has; ``tickets`` may be negative."""
        key = event, buyer
        self.owned[key] = self.owned.get(key, 0) + tickets

    def grant(self, event: Event, buyer: str, tickets: int) -> bool:
        """Return whether a buyer may have that many more tickets of an event, and if so, record that they are granted.

        The caller adds them to what the buyer has.
        """
        key = event.id, buyer
        spare = math.inf if event.per_buyer is None else event.per_buyer - self.owned.get(key, 0) - tickets
        if spare < 0:
            return False
        if spare < self.spare.setdefault(key, spare):
            self.spare[key] = spare
        return True

    def delete_event(self, event: Event) -> None:
        """Record that an event, which has no bookings, is gone."""
        self.deleted_events.add(event.id)
        self.removed.add(event.id)
        self.events_left += 1
        del self.events[event.id]
        self.changed_events.pop(event.id, None)

    def put_booking(self, booking: Booking) -> None:
        """Record a booking as new or changed. Its event has changed too."""
        self.bookings[booking.id] = self.changed_bookings[booking.id] = booking

    def fill_page(self, page: Page, bookings: Iterable[Booking], searched: str | None = None) -> None:
        """Add bookings, which are in the order of their ids, until the page is full.

        ``searched`` is the id up to which all that belong to the page are there; None if there are no others.
        """
        self.last = searched
        tickets = 0
        for booking in bookings:
            tickets += len(booking.tickets) + len(booking.changes or ())
            if len(self.page) == page.limit or (self.page and tickets > TICKETS_PER_PAGE):
                self.last = self.page[-1].id
                break
            self.page.append(booking)
            self.bookings[booking.id] = booking

    def history(self, booking: str, ticket: str) -> Sequence[Redemption]:
        """Return the redemptions of a ticket, the first one first."""
        return self.redemptions.get(booking, {}).get(ticket, ())

    def add_redemptions(self, redemptions: Iterable[Redemption]) -> None:
        """Add redemptions that were read, those of a ticket in their order."""
        for redemption in redemptions:
            self.redemptions.setdefault(redemption.booking, {}).setdefault(redemption.ticket, []).append(redemption)

    def redeem(self, redemption: Redemption) -> None:
        """Record a redemption."""
        self.add_redemptions([redemption])
        self.new_redemptions.append(redemption)
