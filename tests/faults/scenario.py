"""A morning at a box office on a disk that may fail: what it does, what was acknowledged, and what must be true after.

One request after the other goes to a real SqliteStore. What it acknowledged is remembered; a request that was refused
for lack of room is repeated. Whatever a disk does to it, ``Morning.check`` opens what is left, and sees that nothing
acknowledged is missing, nothing is there twice, and the books balance.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.faketime import Clock
from tests.faults.disk import Contents, Disk, plugged
from ticketd.books import LedgerRequest
from ticketd.ids import new_id
from ticketd.model import Event
from ticketd.protocol import (
    Amend,
    Book,
    BookingReply,
    Bookings,
    BookingsReply,
    Cancel,
    Confirm,
    Create,
    ErrorReply,
    Hold,
    Redeem,
    Release,
    Reply,
    Show,
    TicketFacts,
    Tickets,
    TicketsReply,
)
from ticketd.stores.base import CannotOpenError, OutcomeUnknownError, StorageFullError
from ticketd.stores.sqlite import SqliteStore

LEDGER = Path("/ledger/events.db")
DATE = datetime(2027, 3, 11, tzinfo=UTC)
COMMIT_SECONDS_MAX = 30.0
ATTEMPTS_MAX = 3

OpenStore = Callable[[Clock], SqliteStore]


def open_store(clock: Clock, path: Path = LEDGER) -> SqliteStore:
    """Open the ledger on the disk that is plugged in."""
    return SqliteStore(path, new_id, COMMIT_SECONDS_MAX, clock)


class GaveUpError(Exception):
    """The disk stayed full, and the morning ends here."""


class Morning:
    """What happens, what was acknowledged of it, in this order, and what was asked for and not answered.

    ``full`` counts the refusals for lack of room.
    """

    def __init__(self, rounds: int, opened: OpenStore = open_store) -> None:
        self.rounds = rounds
        self.clock = Clock()
        self.acknowledged: list[tuple[LedgerRequest, Reply]] = []
        self.unknown: list[LedgerRequest] = []
        self.full = 0
        self._open = opened
        self._store: SqliteStore | None = None

    def live(self, disk: Disk) -> Exception | None:
        """Let it happen. Returns why the daemon ended before its time, if it did."""
        with plugged(disk):
            try:
                asyncio.run(self._live())
            except (CannotOpenError, OutcomeUnknownError, GaveUpError) as error:
                return error
            finally:
                # The process is no more: whatever is left of it does nothing to the disk.
                disk.dead = True
        return None

    async def _live(self) -> None:
        for number in range(self.rounds):
            self._store = self._open(self.clock)
            await self._ask(Create("Jazz", DATE, 60, f"jazz-{number}"))
            await self._ask(Book(f"jazz-{number}", 3, f"b-{number}"), Hold(f"jazz-{number}", 2, 60, f"h-{number}"))
            await self._ask(Hold(f"jazz-{number}", 4, 60, f"r-{number}"), Hold(f"jazz-{number}", 5, 30, f"x-{number}"))
            await self._ask(Confirm(f"h-{number}"), Release(f"r-{number}"), Book(f"jazz-{number}", 99, f"s-{number}"))
            await self._store.tidy()
            self.clock.move(31)
            # So many tickets that they go on in another page.
            await self._ask(Book(f"jazz-{number}", 45, f"l-{number}"))
            await self._ask(Redeem(self._ticket(f"b-{number}")), Amend(f"jazz-{number}", capacity=70))
            await self._ask(Cancel(f"b-{number}", [self._ticket(f"b-{number}", 1)]), Cancel(f"l-{number}"))
            await self._store.tidy()
            if number % 2:
                await self._store.close()
        # In the end it is killed.

    def _ticket(self, booking: str, number: int = 0) -> str:
        return next(
            reply.tickets[number]
            for _, reply in self.acknowledged
            if isinstance(reply, BookingReply) and reply.id == booking
        )

    async def _ask(self, *requests: LedgerRequest) -> None:
        assert self._store is not None
        for _ in range(ATTEMPTS_MAX):
            self.unknown = list(requests)
            try:
                replies = (await self._store.transact(list(requests))).replies
            except StorageFullError:
                self.full += 1
                continue
            self.unknown = []
            self.acknowledged += zip(requests, replies, strict=True)
            return
        raise GaveUpError

    def check(self, files: Contents) -> Disk:
        """Open what is on a disk after a crash, see that it is right, and return the disk."""
        disk = Disk(files)
        with plugged(disk):
            self.check_ledger(LEDGER)
        return disk

    def check_ledger(self, path: Path) -> None:
        """Open a ledger, and see that it is right."""
        asyncio.run(self._check(path))

    async def _check(self, path: Path) -> None:
        store = open_store(self.clock, path)
        await store.transact([])
        await audit(store)
        await self._check_promises(store)
        for request in self.unknown:
            # It is done by now, or it is done now.
            reply = (await store.transact([request])).replies[0]
            assert not isinstance(reply, ErrorReply) or reply.code in ("sold_out", "already_redeemed"), reply
        await audit(store)
        await store.close()

    async def _check_promises(self, store: SqliteStore) -> None:
        for request, reply in self.acknowledged:
            again = (await store.transact([request])).replies[0]
            if isinstance(request, Redeem):
                assert isinstance(again, ErrorReply), f"{request} was acknowledged and is forgotten"
                assert again.code == "already_redeemed", f"{request} got {again}"
            elif not isinstance(reply, ErrorReply):
                assert getattr(again, "replayed", False), f"{request} was acknowledged and is forgotten"
                if not isinstance(request, Amend):
                    again.replayed = False  # type: ignore[union-attr]
                    assert again == reply, f"{request} was answered {reply}, and now {again}"


async def audit(store: SqliteStore) -> None:
    """See that the books balance, and that each booking has just its tickets."""
    events = {event.id: event for event in await store.events()}
    bookings = await _all_bookings(store)
    tickets = await _all_tickets(store)
    states = Counter((ticket.event, ticket.state) for ticket in tickets.values())
    held: Counter[str] = Counter()
    for booking in bookings.values():
        held[booking.event] += booking.quantity if booking.state == "held" else 0
        if booking.tickets:
            assert len(booking.tickets) == booking.quantity, booking
        for ticket in booking.tickets:
            assert tickets[ticket].booking == booking.id, booking
    of_bookings = [ticket for booking in bookings.values() for ticket in booking.tickets]
    assert sorted(of_bookings) == sorted(tickets), "tickets and bookings do not belong together"
    for event in events.values():
        _balance(event, held[event.id], states[event.id, "valid"] + states[event.id, "redeemed"])


def _balance(event: Event, held: int, sold: int) -> None:
    assert event.sold + event.held + event.available == event.capacity, event
    assert min(event.sold, event.held, event.available) >= 0, event
    assert (event.held, event.sold - event.sold_elsewhere) == (held, sold), event


async def _all_bookings(store: SqliteStore) -> dict[str, BookingReply]:
    bookings: dict[str, BookingReply] = {}
    page = Bookings()
    while (reply := (await store.transact([page])).replies[0]) and isinstance(reply, BookingsReply) and reply.bookings:
        page = Bookings(reply.bookings[-1].id)
        shown = (await store.transact([Show(booking.id) for booking in reply.bookings])).replies
        bookings.update((booking.id, booking) for booking in shown if isinstance(booking, BookingReply))
    return bookings


async def _all_tickets(store: SqliteStore) -> dict[str, TicketFacts]:
    tickets: dict[str, TicketFacts] = {}
    page = Tickets()
    while (reply := (await store.transact([page])).replies[0]) and isinstance(reply, TicketsReply) and reply.tickets:
        page = Tickets(reply.tickets[-1].id)
        tickets.update((ticket.id, ticket) for ticket in reply.tickets)
    return tickets
