"""A small sale in one file in which people wait, and what becomes of them; and one in which very many wait."""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.callbacks import commit, read
from tests.faketime import Clock
from tests.ledgers import EmbeddedStorage
from ticketd.ledger.base import Answers
from ticketd.ledger.check import check
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.ledger.embedded.offline import EmbeddedOffline
from ticketd.ledger.marks import NO_MARK
from ticketd.ledger.rows import BOOKINGS, EVENTS
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingsReply, Reply
from ticketd.wire.requests import Book, Bookings, Create, Hold, Show, Wait


def waits(**quantities: int) -> list[LedgerRequest]:
    """Return requests to wait for so many tickets, which are then held for 30 s."""
    return [Wait("e", quantity, 30, booking) for booking, quantity in quantities.items()]


def codes(replies: Sequence[Reply]) -> list[str]:
    """Return of each reply the code of an error, the state of a booking, or its kind."""
    return [getattr(each, "code", None) or getattr(each, "state", None) or type(each).__name__ for each in replies]


async def faults_of(path: Path) -> list[str]:
    said: list[str] = []
    await check(str(path), said.append)
    return [line for line in said if line.startswith("wrong")] or said[-1:]


class Sale:
    """A ledger whose event e has 6 tickets: s and t were sold 2 each, and h holds 2 for a minute."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self._storage = EmbeddedStorage(folder, clock)

    async def open(self) -> None:
        ledger = await self._storage.open()
        assert isinstance(ledger, EmbeddedLedger)
        self.ledger, self._is_open = ledger, True

    async def close(self) -> None:
        if self._is_open:
            await self.ledger.close()
        self._is_open = False

    async def begin(self) -> None:
        await self.open()
        sold = [Book("e", 2, "s"), Book("e", 2, "t"), Hold("e", 2, 60, "h")]
        await self.commit(Create("E", self.clock.time, 6, "e"), *sold)

    async def kill(self) -> None:
        """Kill -9, and open what is left."""
        await self._storage.crash(self.ledger)
        await self.open()

    async def commit(self, *requests: LedgerRequest) -> Answers:
        return await commit(self.ledger, *requests)

    async def codes(self, *requests: LedgerRequest) -> list[str]:
        return codes((await self.commit(*requests)).replies)

    async def offers(self, *requests: LedgerRequest) -> list[str]:
        """Return which bookings get tickets in a commit, in this order."""
        return [booking.id for booking in (await self.commit(*requests)).offered]

    async def left(self) -> tuple[int, int]:
        """Return how many tickets are available, and how many bookings wait."""
        [event] = await self.ledger.events()
        return event.available, event.waiting

    def line(self) -> dict[str, str | int]:
        """Return the places of those who wait, and the states of those who waited."""
        [page] = read(self.ledger, Bookings(event="e"))
        assert isinstance(page, BookingsReply)
        found: dict[str, str | int] = {each.id: each.position or each.state for each in page.bookings}
        # Alone, each is shown alike.
        alone = read(self.ledger, *map(Show, found))
        assert [getattr(each, "position", None) or getattr(each, "state", None) for each in alone] == [*found.values()]
        return {id_: state for id_, state in found.items() if id_ not in ("s", "t", "h")}


async def make_long_line(path: Path, quantities: Sequence[int], sold: int = 10) -> None:
    """Make a ledger whose event e is sold out, to a booking s, and for which many wait: w000000, w000001 and so on."""
    ledger = EmbeddedOffline(path, NO_MARK)
    length = len(quantities)
    event = (
        1,
        "e",
        "E",
        "2027-03-11T20:00:00+00:00",
        sold,
        0,
        0,
        sold,
        length + 1,
        0,
        *[None] * 2,
        0,
        None,
        0,
        None,
        length,
    )
    tickets = json.dumps([f"{number:012x}" for number in range(sold)])
    line = [
        (f"w{place:06}", "e", quantity, "waiting", "[]", 0, place + 2, 0, 30, *[None] * 4)
        for place, quantity in enumerate(quantities)
    ]
    async with ledger.writing(NO_MARK):
        await ledger.add(EVENTS, [event])
        await ledger.add(BOOKINGS, [("s", "e", sold, "confirmed", tickets, 0, 1, 0, *[None] * 5), *line])
    await ledger.finish()
