"""What a batch of requests needs, and what it touched: the books that a store fills, and saves.

Pure. ``rules`` says what requests do to them.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec import Struct

from ticketd.model import Booking, Change, Event, Ticket
from ticketd.protocol import (
    BOOKINGS_PER_PAGE_MAX,
    ROWS_PER_PAGE_MAX,
    Amend,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Hold,
    Redeem,
    Release,
    Restore,
    Show,
    Tickets,
)

ROWS_OF_A_BOOKING_GUESS = 64


class Adopt(Struct):
    """Take in an event of the catalogue file, unless the ledger knows its id. Comes from no client."""

    event: Event


# The requests that read or write the ledger. Those of clients have had their missing ids minted.
LedgerRequest = (
    Book | Hold | Confirm | Release | Cancel | Redeem | Create | Amend | Adopt | Show | Bookings | Tickets | Restore
)


def rows(request: LedgerRequest) -> int:
    """Return about how many rows a request reads or writes, which is what it costs.

    How many tickets a booking has is only known once it is loaded; most have a few, and one may have a thousand. The
    guess bounds the harm of a thousand of those, and lets a stampede of small ones fill a commit.
    """
    match request:
        case Book():
            return 1 + request.quantity
        case Restore():
            return 1 + len(request.tickets or ())
        case Tickets():
            return request.limit
        case Bookings():
            return request.limit * ROWS_PER_PAGE_MAX // BOOKINGS_PER_PAGE_MAX
        case Confirm() | Cancel() | Show():
            return ROWS_OF_A_BOOKING_GUESS
        case _:
            return 1


class Needs:
    """The ids of what must be in the books before a batch can be decided.

    With a ticket its booking is needed, with a booking its event; and for ``with_tickets`` all tickets of the booking.
    """

    def __init__(self, requests: Iterable[LedgerRequest]) -> None:
        self.events: set[str] = set()
        self.bookings: set[str] = set()
        self.tickets: set[str] = set()
        self.with_tickets: set[str] = set()
        self.pages: list[Bookings | Tickets] = []
        for request in requests:
            match request:
                case Book() | Hold():
                    self.events.add(request.event)
                    self.bookings.add(str(request.booking))
                case Confirm() | Release():
                    self.bookings.add(request.booking)
                case Cancel():
                    self.bookings.add(request.booking)
                    self.with_tickets.add(request.booking)
                case Redeem():
                    self.tickets.add(request.ticket)
                case Restore():
                    self.events.add(request.event)
                    self.bookings.add(request.booking)
                    self.tickets.update(request.tickets or ())
                case Create():
                    self.events.add(str(request.id))
                case Amend():
                    self.events.add(request.event)
                case Adopt():
                    self.events.add(request.event.id)
                case Show():
                    self.events.add(request.id)
                    self.bookings.add(request.id)
                    self.with_tickets.add(request.id)
                    self.tickets.add(request.id)
                case Bookings() | Tickets():
                    self.pages.append(request)


class Books:
    """The events, bookings and tickets that a batch touches, by id, and what of them it changed.

    A store fills them with what is committed and saves what changed. ``new_id`` mints the ids of tickets; ``now`` is
    the time of the batch, in whole milliseconds. ``due`` is how many tickets of an event are in holds that ran out by
    then: the store loads it for all events. ``pages`` are in the order of the requests for them.
    """

    def __init__(self, new_id: Callable[[], str], now: datetime) -> None:
        self.new_id = new_id
        self.now = now
        self.events: dict[str, Event] = {}
        self.bookings: dict[str, Booking] = {}
        self.tickets: dict[str, Ticket] = {}
        self.due: dict[str, int] = {}
        self.pages: list[list[Booking] | list[Ticket]] = []
        self.changed_events: dict[str, Event] = {}
        self.changed_bookings: dict[str, Booking] = {}
        self.changed_tickets: dict[str, Ticket] = {}
        # What the holds of an event that ran out came to; the store notes it in all of them at once.
        self.expired: dict[str, Change] = {}

    @property
    def changed(self) -> bool:
        """Whether there is anything to save."""
        return bool(self.changed_events or self.changed_bookings or self.changed_tickets)

    def put_event(self, event: Event) -> None:
        """Note an event that is new or changed."""
        self.events[event.id] = self.changed_events[event.id] = event

    def put_booking(self, booking: Booking) -> None:
        """Note a booking that is new or changed."""
        self.bookings[booking.id] = self.changed_bookings[booking.id] = booking

    def put_ticket(self, ticket: Ticket) -> None:
        """Note a ticket that is new or changed."""
        self.tickets[ticket.id] = self.changed_tickets[ticket.id] = ticket
