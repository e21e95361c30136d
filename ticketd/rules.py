"""What each request does to the books. Pure: ids come from the caller, and nothing here waits, reads or writes.

A refused request changes nothing. The same rules run over every store.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct

from ticketd.model import Booking, Event, Ticket
from ticketd.protocol import Book, BookingReply, Create, ErrorReply, EventReply, Reply, Show, TicketReply


class Adopt(Struct):
    """Take in an event of the catalogue file, unless the ledger knows its id. Comes from no client."""

    event: Event


# The requests that read or write the ledger. Those of clients have had their missing ids minted.
LedgerRequest = Book | Create | Show | Adopt


def rows(request: LedgerRequest) -> int:
    """Return about how many rows a request writes, which is what it costs."""
    return 1 + request.quantity if isinstance(request, Book) else 1


class Needs:
    """The ids whose events, bookings and tickets must be in the books before a batch can be decided."""

    def __init__(self, requests: Iterable[LedgerRequest]) -> None:
        self.events: set[str] = set()
        self.bookings: set[str] = set()
        self.tickets: set[str] = set()
        for request in requests:
            match request:
                case Book(event=event, booking=str(booking)):
                    self.events.add(event)
                    self.bookings.add(booking)
                case Create(id=str(event)):
                    self.events.add(event)
                case Adopt(event=Event(id=event)):
                    self.events.add(event)
                case Show(id=any_id):
                    self.events.add(any_id)
                    self.bookings.add(any_id)
                    self.tickets.add(any_id)


class Books:
    """The events, bookings and tickets that a batch touches, by id, and what of them it changed.

    A store fills them with what is committed and saves what changed. ``new_id`` mints the ids of tickets.
    """

    def __init__(self, new_id: Callable[[], str]) -> None:
        self.new_id = new_id
        self.events: dict[str, Event] = {}
        self.bookings: dict[str, Booking] = {}
        self.tickets: dict[str, Ticket] = {}
        self.changed_events: dict[str, Event] = {}
        self.changed_bookings: dict[str, Booking] = {}
        self.changed_tickets: dict[str, Ticket] = {}

    @property
    def changed(self) -> bool:
        """Whether there is anything to save."""
        return bool(self.changed_events)

    def put_event(self, event: Event) -> None:
        """Note an event that is new or changed. Whatever changes, changes its event, whose version counts it."""
        self.events[event.id] = self.changed_events[event.id] = event

    def put_booking(self, booking: Booking) -> None:
        """Note a booking that is new or changed."""
        self.bookings[booking.id] = self.changed_bookings[booking.id] = booking

    def put_ticket(self, ticket: Ticket) -> None:
        """Note a ticket that is new or changed."""
        self.tickets[ticket.id] = self.changed_tickets[ticket.id] = ticket


def decide(books: Books, request: LedgerRequest) -> Reply:
    """Do what the request asks, or refuse it, and return the reply."""
    return _RULES[type(request)](books, request)


def event_reply(event: Event, *, replayed: bool = False) -> EventReply:
    """Return the reply that shows an event."""
    reply = msgspec.convert(event, EventReply, from_attributes=True)
    reply.replayed = replayed
    return reply


def _booking_reply(booking: Booking, *, replayed: bool = False) -> BookingReply:
    return BookingReply(
        booking.id,
        booking.event,
        booking.quantity,
        booking.state,
        booking.tickets,
        booking.available,
        booking.version,
        replayed,
    )


def _create(books: Books, request: Create) -> Reply:
    assert isinstance(request.id, str)
    wanted = Event(
        id=request.id,
        name=request.name,
        date=request.date,
        capacity=request.capacity,
        available=request.capacity,
        held=0,
        sold=0,
        version=0,
        sold_elsewhere=0,
    )
    known = books.events.get(wanted.id)
    if known is None:
        books.put_event(wanted)
        return event_reply(wanted)
    same = (known.name, known.date, known.capacity) == (wanted.name, wanted.date, wanted.capacity)
    if same and known.sold_elsewhere == 0:
        # The original reply: as the event was when it was created.
        return event_reply(wanted, replayed=True)
    return ErrorReply("event_exists", f"event {wanted.id} exists and is another one; choose another id")


def _adopt(books: Books, request: Adopt) -> Reply:
    known = books.events.get(request.event.id)
    if known is None:
        books.put_event(request.event)
    return event_reply(known or request.event)


def _book(books: Books, request: Book) -> Reply:
    assert isinstance(request.booking, str)
    known = books.bookings.get(request.booking)
    if known is not None:
        if (known.event, known.quantity) == (request.event, request.quantity):
            return _booking_reply(known, replayed=True)
        return ErrorReply(
            "booking_conflict",
            f"booking {known.id} is for {known.quantity} of event {known.event}; use a new booking id",
        )
    event = books.events.get(request.event)
    if event is None:
        return ErrorReply("event_not_found", f"there is no event {request.event}; list shows the events")
    if request.quantity > event.available:
        left = f"{event.available} left, fewer than {request.quantity}" if event.available else "no tickets left"
        return ErrorReply("sold_out", f"event {event.id} has {left}", available=event.available, version=event.version)
    event.sell(request.quantity)
    tickets = [books.new_id() for _ in range(request.quantity)]
    booking = Booking(request.booking, event.id, request.quantity, "confirmed", tickets, event.available, event.version)
    books.put_event(event)
    books.put_booking(booking)
    for ticket in tickets:
        books.put_ticket(Ticket(ticket, event.id, booking.id, "valid"))
    return _booking_reply(booking)


def _show(books: Books, request: Show) -> Reply:
    if event := books.events.get(request.id):
        return event_reply(event)
    if booking := books.bookings.get(request.id):
        return _booking_reply(booking)
    if ticket := books.tickets.get(request.id):
        return TicketReply(ticket.id, ticket.event, ticket.booking, ticket.state)
    return ErrorReply("not_found", f"there is no event, booking or ticket {request.id}")


_RULES: dict[type, Callable[[Books, Any], Reply]] = {Create: _create, Adopt: _adopt, Book: _book, Show: _show}
