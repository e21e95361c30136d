"""A sale in a ledger, databases to move it to, and an event that is sold out."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.faketime import Clock
from tests.ledger.asking import faults_of, serve_lines, told
from tests.ledger.passed_over import passed_over
from tests.ledger.sale import make_sale
from tests.ledgers import PostgresStorage
from tests.postgres import Server
from ticketd.ledger.base import Ledger
from ticketd.wire.requests import Book, Create, Hold


@pytest.fixture
async def sale(tmp_path: Path) -> str:
    """An embedded ledger with a sale, in a folder of its own."""
    folder = tmp_path / "sale"
    folder.mkdir()
    await make_sale(folder / "events.db")
    return str(folder / "events.db")


@pytest.fixture
def another_database(postgres: Server) -> Iterator[str]:
    """The URL of another empty database."""
    url = postgres.new_database()
    yield url
    postgres.give_back(url)


@pytest.fixture
def clock() -> Clock:
    """The clock of the ledgers of ``sold_out``, which stands still until it is moved."""
    return Clock()


@pytest.fixture
async def sold_out(database: str, clock: Clock) -> AsyncIterator[tuple[Ledger, Ledger]]:
    """Two ledgers on one database. The first one has sold and held all of an event of 4 tickets.

    In the end, the database is whole, and nobody in line was passed over.
    """
    async with AsyncExitStack() as stack:
        ledgers = [await PostgresStorage(database, clock).open() for _ in range(2)]
        for ledger in ledgers:
            stack.push_async_callback(ledger.close)
        jazz = Create("Jazz", clock.time, 4, "jazz")
        await told(ledgers[0], jazz, Book("jazz", 2, "sold", "ann"), Hold("jazz", 2, 60, "held", "bob"))
        yield ledgers[0], ledgers[1]
        await serve_lines(ledgers[0])
        assert await passed_over(database, clock()) == []
        assert await faults_of(database) == ["whole"]
