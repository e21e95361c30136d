"""Whatever many daemons do with one waiting list, each ticket goes to the first in line who can use it."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count

import pytest

from tests.faketime import Clock
from tests.ledger.asking import faults_of, serve_lines
from tests.ledger.passed_over import check_order, passed_over
from tests.ledgers import PostgresStorage, transact
from ticketd.ledger.base import Ledger
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply, EventReply
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Create, Extend, Hold, Release, Wait

CAPACITY = 6
BATCHES = 120
DAEMONS = 3
BATCHES_PER_DAEMON = 60


class Crowd:
    """Asks for anything that concerns a line, mostly for what may have tickets."""

    def __init__(self, chance: random.Random, clock: Clock) -> None:
        self._chance = chance
        self._clock = clock
        self._numbers = count()
        # The last ones that were made, and those that have had tickets since.
        self._made: deque[str] = deque(["b0"], 9)
        self._had_tickets: set[str] = set()
        # What amendments made of the event, by its version.
        self.amended: dict[int, tuple[int, bool]] = {}

    def batch(self) -> list[LedgerRequest]:
        return [self._request() for _ in range(self._chance.choice([1, 1, 2, 4]))]

    def _request(self) -> LedgerRequest:
        choose = self._chance.choice
        if self._chance.random() < 0.4:
            return self._new(f"b{next(self._numbers)}", self._chance.randint(1, 3), choose([1, 60, 900]))
        if self._chance.random() < 0.1:
            capacity = self._chance.randint(CAPACITY // 2, CAPACITY * 2)
            larger = Amend("jazz", capacity=capacity, paused=False)
            return choose([larger, larger, larger, Amend("jazz", paused=True)])
        id = choose([*self._made, *sorted(self._had_tickets)])
        return choose([Release(id), Release(id), Cancel(id), Cancel(id), Confirm(id, late=True), Extend(id, 60)])

    def _new(self, id: str, quantity: int, seconds: int) -> LedgerRequest:
        self._made.append(id)
        wait = Wait("jazz", quantity, seconds, id)
        return self._chance.choice([wait, wait, Book("jazz", quantity, id), Hold("jazz", quantity, seconds, id)])

    async def ask(self, ledger: Ledger) -> None:
        """Ask a ledger for something. Time may pass before that."""
        if self._chance.random() < 0.1:
            self._clock.move(self._chance.choice([0.5, 1, 61]))
        answers = await transact(ledger, self.batch())
        self._had_tickets.update(booking.id for booking in answers.offered)
        for reply in answers.replies:
            if isinstance(reply, EventReply) and not reply.replayed:
                self.amended[reply.version] = reply.capacity, reply.paused
            elif isinstance(reply, BookingReply) and reply.state in ("held", "confirmed"):
                self._had_tickets.add(reply.id)
            elif isinstance(reply, BookingReply):
                self._had_tickets.discard(reply.id)


@pytest.fixture
async def ledgers(database: str, clock: Clock) -> AsyncIterator[list[Ledger]]:
    """Several ledgers on one database, with an event. At the end it is whole, and nobody was passed over."""
    async with AsyncExitStack() as stack:
        opened = [await PostgresStorage(database, clock).open() for _ in range(DAEMONS)]
        for ledger in opened:
            stack.push_async_callback(ledger.close)
        await transact(opened[0], [Create("Jazz", clock.time, CAPACITY, "jazz")])
        yield opened
        await serve_lines(opened[0])
        assert await passed_over(database, clock()) == []
        assert await faults_of(database) == ["whole"]


async def test_in_any_turns_each_ticket_goes_to_the_first_in_line(
    chance: random.Random, database: str, clock: Clock, ledgers: list[Ledger]
) -> None:
    crowd = Crowd(chance, clock)
    for _ in range(BATCHES):
        ledger = chance.choice(ledgers)
        await crowd.ask(ledger)
        if ledger.next_expiry == 0:
            await serve_lines(ledger)
        assert await passed_over(database, clock()) == []
    assert await check_order(database, CAPACITY, crowd.amended) > BATCHES / 10


async def test_all_at_once_each_ticket_goes_to_the_first_in_line(
    chance: random.Random, database: str, clock: Clock, ledgers: list[Ledger]
) -> None:
    crowd = Crowd(chance, clock)

    async def sell(ledger: Ledger) -> None:
        for turn in range(BATCHES_PER_DAEMON):
            await crowd.ask(ledger)
            if turn % 10 == 0:
                await transact(ledger, [])

    # Two connections each.
    await asyncio.gather(*(sell(ledger) for ledger in ledgers * 2))
    assert await check_order(database, CAPACITY, crowd.amended) > BATCHES_PER_DAEMON / 10
