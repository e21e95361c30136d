"""A morning of sales on a disk that may fail: what it does, what was acknowledged, and what must be true after.

One request after the other goes to a real EmbeddedLedger. What it acknowledged is remembered; a request that was
refused for lack of room is repeated. Whatever a disk does to it, ``Morning.check`` opens what is left, and checks that
nothing acknowledged is missing, nothing is there twice, and the counts agree.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

from tests.callbacks import commit, read
from tests.faketime import Clock
from tests.faults.disk import Contents, Disk, plugged
from ticketd.ledger.base import CannotOpenError, OutcomeUnknownError, StorageFullError
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.model import TICKET_CHARS, Event, TicketState
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingFacts, BookingReply, BookingsReply, ErrorReply, EventReply, Reply, TicketReply
from ticketd.wire.requests import (
    Amend,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Hold,
    Redeem,
    Reissue,
    Release,
    Show,
    Wait,
)

LEDGER = Path("/ledger/events.db")
DATE = datetime(2027, 3, 11, tzinfo=UTC)
COMMIT_SECONDS_MAX = 30.0
ATTEMPTS_MAX = 3
# So many tickets that they go on in another page, and do so again when they are cancelled.
LARGE = 300

OpenLedger = Callable[[Clock], EmbeddedLedger]


def open_ledger(clock: Clock, path: Path = LEDGER) -> EmbeddedLedger:
    """Open the ledger on the disk that is plugged in."""
    return EmbeddedLedger(path, COMMIT_SECONDS_MAX, clock)


class GaveUpError(Exception):
    """The disk stayed full, and the morning ends here."""


class Morning:
    """What happens, what was acknowledged of it, in this order, and what was asked for and not answered.

    ``full`` counts the refusals for lack of room.
    """

    def __init__(self, rounds: int, opened: OpenLedger = open_ledger) -> None:
        self.rounds = rounds
        self.clock = Clock()
        self.acknowledged: list[tuple[LedgerRequest, Reply]] = []
        self.unknown: list[LedgerRequest] = []
        self.full = 0
        self._open = opened
        self._ledger: EmbeddedLedger | None = None

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
            self._ledger = self._open(self.clock)
            try:
                await self._live_round(number)
                if number % 2:
                    await self._ledger.close()
            finally:
                self._ledger._writer.close()
        # In the end it is killed.

    async def _live_round(self, number: int) -> None:
        jazz = f"jazz-{number}"
        await self._ask(Create("Jazz", DATE, 400, jazz))
        await self._ask(Book(jazz, 3, f"b-{number}"), Hold(jazz, 2, 60, f"h-{number}"))
        await self._ask(Hold(jazz, 4, 60, f"r-{number}"), Hold(jazz, 5, 30, f"x-{number}"))
        await self._ask(Confirm(f"h-{number}"), Release(f"r-{number}"), Book(jazz, 999, f"s-{number}"))
        # A page that is cut short before the log is folded into the file, which the next commit does first.
        self._read(Bookings(limit=1))
        self._ledger_now._database.checkpoint_due = True
        self.clock.move(31)
        await self._ask(Book(jazz, LARGE, f"l-{number}"), Book(jazz, LARGE // 4, f"b-{number}.large"))
        used, gone, left = self._tickets(f"b-{number}")
        await self._ask(Redeem(used, scan="first"), Amend(jazz, capacity=500, per_buyer=10))
        await self._ask(Reissue(self._tickets(f"b-{number}.large")[0]), Book(jazz, 4, f"a-{number}", "anna"))
        await self._ask(Cancel(f"b-{number}", [gone]), Cancel(f"l-{number}"))
        # Nobody is let in twice, nor with what was cancelled, nor with the ticket of another.
        others = f"h-{number}{left[-TICKET_CHARS - 1 :]}"
        await self._ask(*(Redeem(ticket, scan=f"of {ticket}") for ticket in (used, gone, others, left)))
        self._read(Show(f"l-{number}"), Show(left))
        if number % 4 == 0:
            await self._wait_in_line(number)

    async def _wait_in_line(self, number: int) -> None:
        """Let a line form, in which two get tickets, two leave, and one stays."""
        full, line = f"full-{number}", [f"w-{number}-{place}" for place in range(5)]
        waits = [Wait(full, quantity, 20, id_, id_) for id_, quantity in zip(line, (2, 1, 3, 1, 4), strict=True)]
        await self._ask(Create("Full", DATE, 4, full, per_buyer=4), Book(full, 4, f"f-{number}", "anna"), *waits)
        some = self._tickets(f"f-{number}")
        await self._ask(Cancel(f"f-{number}", some[:1]), Release(line[3]), Cancel(f"f-{number}", some[1:3]))
        await self._ask(Confirm(line[1]))
        # What ran out is not enough for the next one, who has too many when there is enough.
        self.clock.move(21)
        await self._ask(Amend(full, capacity=5, per_buyer=2))
        self._read(Show(line[4]), Show(full))

    @property
    def _ledger_now(self) -> EmbeddedLedger:
        assert self._ledger is not None
        return self._ledger

    def _tickets(self, booking: str) -> list[str]:
        return next(
            reply.tickets for _, reply in self.acknowledged if isinstance(reply, BookingReply) and reply.id == booking
        )

    def _read(self, *requests: Bookings | Show) -> list[Reply]:
        return read(self._ledger_now, *requests)

    async def _ask(self, *requests: LedgerRequest) -> None:
        for _ in range(ATTEMPTS_MAX):
            self.unknown = list(requests)
            before = await self._shown(requests)
            try:
                replies = (await commit(self._ledger_now, *requests)).replies
            except StorageFullError:
                self.full += 1
                assert await self._shown(requests) == before, f"what is not committed is shown: {requests}"
                continue
            self.unknown = []
            self.acknowledged += zip(requests, replies, strict=True)
            return
        raise GaveUpError

    async def _shown(self, requests: tuple[LedgerRequest, ...]) -> tuple[list[str], list[Reply]]:
        """Return all events, and what requests are about, as they are shown now."""
        ids = {getattr(request, field, None) for request in requests for field in ("id", "booking", "ticket")}
        shows = [Show(id_) for id_ in sorted(id_ for id_ in ids if isinstance(id_, str))]
        return list(map(str, await self._ledger_now.events())), self._read(*shows)

    def check(self, files: Contents) -> Disk:
        """Open what is on a disk after a crash, check that it is right, and return the disk."""
        disk = Disk(files)
        with plugged(disk):
            self.check_ledger(LEDGER)
        return disk

    def check_ledger(self, path: Path) -> None:
        """Open a ledger, and check that it is right."""
        asyncio.run(self._check(path))

    async def _check(self, path: Path) -> None:
        ledger = open_ledger(self.clock, path)
        try:
            await commit(ledger)
            await audit(ledger)
            await self._check_promises(ledger)
            for request in self.unknown:
                # It is done by now, or it is done now.
                [reply] = (await commit(ledger, request)).replies
                assert not isinstance(reply, ErrorReply) or reply.code in REFUSALS, reply
            await audit(ledger)
            await ledger.close()
        finally:
            ledger._writer.close()

    async def _check_promises(self, ledger: EmbeddedLedger) -> None:
        for request, reply in self.acknowledged:
            [again] = (await commit(ledger, request)).replies
            if isinstance(request, Redeem) and isinstance(reply, ErrorReply):
                assert isinstance(again, ErrorReply), f"{request} let somebody in"
                assert again.code == reply.code, f"{request} got {again}"
            elif not isinstance(reply, ErrorReply):
                assert isinstance(again, BookingReply | EventReply | TicketReply), f"{request} got {again}"
                assert again.replayed, f"{request} was acknowledged and is forgotten"
                if not isinstance(request, Amend):
                    again.replayed = False
                    if isinstance(reply, BookingReply):
                        # A replay does not tell who was before it.
                        reply.position = None
                    assert again == reply, f"{request} was answered {reply}, and now {again}"


# What may be answered to a request whose outcome was unknown.
REFUSALS = ("sold_out", "already_redeemed", "already_cancelled", "ticket_not_found")


async def audit(ledger: EmbeddedLedger) -> None:
    """Check that the counts of all events agree, and that each booking has just its tickets."""
    events = {event.id: event for event in await ledger.events()}
    held: Counter[str] = Counter()
    sold: Counter[str] = Counter()
    issued: Counter[str] = Counter()
    lines: defaultdict[str, list[tuple[int | None, int]]] = defaultdict(list)
    for booking in _all_bookings(ledger):
        held[booking.event] += booking.quantity if booking.state == "held" else 0
        sold[booking.event] += len(booking.tickets) - len(booking.cancelled)
        if booking.state == "waiting":
            lines[booking.event].append((booking.position, booking.version))
        issued.update(booking.tickets)
        _audit_tickets(ledger, booking)
    assert max(issued.values(), default=1) == 1, "two bookings have the same ticket"
    for event in events.values():
        _balance(event, held[event.id], sold[event.id])
        _check_line(event, sorted(lines[event.id]))


def _audit_tickets(ledger: EmbeddedLedger, booking: BookingFacts) -> None:
    """Check that a booking has as many tickets as it should, and that each of them is known as what it is."""
    tickets, cancelled, redeemed = booking.tickets, set(booking.cancelled), set(booking.redeemed)
    assert len(set(tickets)) == len(tickets) == (booking.quantity if booking.state in SOLD else 0), booking
    assert all(ticket[:-TICKET_CHARS] == f"{booking.id}." for ticket in tickets), booking
    assert cancelled | redeemed <= set(tickets), booking
    assert not cancelled & redeemed, f"with a cancelled ticket somebody was let in: {booking}"
    assert len(booking.redeemed) == len(redeemed) == len(booking.redeemed_at), booking
    assert (booking.state == "cancelled") == (0 < len(cancelled) == booking.quantity), booking
    at = dict(zip(booking.redeemed, booking.redeemed_at, strict=True))
    # Those of a booking stand in one row: some of many stand for all.
    some = [*tickets[:4], *tickets[4::100]]
    for ticket, shown in zip(some, read(ledger, *map(Show, some)), strict=True):
        state: TicketState = "cancelled" if ticket in cancelled else "redeemed" if ticket in redeemed else "valid"
        assert shown == TicketReply(ticket, booking.event, booking.id, state, at.get(ticket)), shown


SOLD = ("confirmed", "cancelled")


def _balance(event: Event, held: int, sold: int) -> None:
    assert event.sold + event.held + event.available == event.capacity, event
    assert min(event.sold, event.held, event.available) >= 0, event
    assert (event.held, event.sold - event.sold_elsewhere) == (held, sold), event


def _check_line(event: Event, line: list[tuple[int | None, int]]) -> None:
    """Check that everybody who waits has a place, in the order in which they joined."""
    assert event.waiting == len(line), event
    assert line == [(place, version) for place, (_, version) in enumerate(sorted(line, key=itemgetter(1)), 1)], line


def _all_bookings(ledger: EmbeddedLedger) -> list[BookingFacts]:
    """Return all bookings, as pages and ``show`` tell them alike."""
    bookings: list[BookingFacts] = []
    page = Bookings()
    more = True
    while more:
        [reply] = read(ledger, page)
        assert isinstance(reply, BookingsReply)
        shown = read(ledger, *(Show(record.id) for record in reply.bookings))
        for record, booking in zip(reply.bookings, shown, strict=True):
            assert isinstance(booking, BookingReply)
            for field in BookingFacts.__struct_fields__:
                assert getattr(record, field) == getattr(booking, field), (record, booking)
        bookings += reply.bookings
        assert reply.bookings or not reply.more
        more = reply.more
        page = Bookings(reply.bookings[-1].id) if more else page
    return bookings
