"""``ticketd move`` and ``check`` with waiting lists: whoever waits keeps the place, in a file or a database."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.ledger.asking import faults_of, outcome, told
from tests.ledger.sale import BUYER, DATE, change, open_ledger, quiet, rows_in, ticketd
from tests.ledgers import read, transact
from ticketd.ledger.base import Ledger
from ticketd.ledger.move import move
from ticketd.wire.replies import BookingReply
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Create, Release, Show, Wait

LATER = datetime(2099, 1, 1, tzinfo=UTC)
# Who waits for jazz, and for how many tickets.
LINE = {"w1": 2, "w2": 4, "w3": 1, "w4": 1, "w5": 2}
WHOLE = "bookings: 12 (1 cancelled, 3 confirmed, 1 held, 1 released, 6 waiting)"


@pytest.fixture
async def waited_for(tmp_path: Path) -> str:
    """An embedded ledger with two lines: of jazz, which is sold out, and of pop, which has tickets and opens later."""
    path = str(tmp_path / "source.db")
    ledger = await open_ledger(path)
    await told(ledger, Create("Jazz", DATE, 6, "jazz"), *(Book("jazz", 2, f"sold{number}") for number in range(3)))
    for id, quantity in LINE.items():
        await told(ledger, Wait("jazz", quantity, 900, id, BUYER))
    await told(ledger, Wait("jazz", 1, 60, "left"), Release("left"))
    await told(ledger, Create("Pop", DATE, 3, "pop"), Book("pop", 3, "gone"))
    await told(ledger, Wait("pop", 1, 80_000, "offered"), Wait("pop", 3, 80_000, "early"))
    await told(ledger, Amend("pop", capacity=4), Amend("pop", opens=LATER), Cancel("gone"))
    await ledger.close()
    return path


async def places(ledger: Ledger) -> list[int | None]:
    shown = await read(ledger, [Show(id) for id in (*LINE, "early")])
    return [reply.position for reply in shown if isinstance(reply, BookingReply)]


async def test_a_line_goes_on_in_each_ledger_that_it_is_moved_to(
    waited_for: str, database: str, another_database: str, tmp_path: Path
) -> None:
    back, last = str(tmp_path / "back.db"), str(tmp_path / "last.db")
    before = rows_in(waited_for)
    await move(waited_for, database, quiet)
    await move(database, back, quiet)
    assert rows_in(back) == before
    await move(back, another_database, quiet)
    ledger = await open_ledger(another_database)
    assert await places(ledger) == [1, 2, 3, 4, 5, 1]
    # Each takes what it can use, in the order in which they came to the file.
    assert [booking.id for booking in (await transact(ledger, [Cancel("sold0")])).offered] == ["w1"]
    assert [booking.id for booking in (await transact(ledger, [Release("w1")])).offered] == ["w3", "w4"]
    await ledger.close()
    await move(another_database, last, quiet)
    ledger = await open_ledger(last)
    assert await places(ledger) == [None, 1, None, None, 2, 1]
    assert [booking.id for booking in (await transact(ledger, [Cancel("sold1")])).offered] == ["w5"]
    assert await outcome(ledger, Amend("jazz", capacity=10), Amend("pop", opens=None)) == ["event", "event"]
    assert await outcome(ledger, *map(Confirm, ("w2", "w3", "w5", "offered", "early"))) == ["confirmed"] * 5
    await ledger.close()
    assert await faults_of(last) == ["whole"]


async def test_a_check_counts_those_who_wait_in_either_ledger(waited_for: str, database: str) -> None:
    for ledger in (waited_for, database):
        checked = await asyncio.to_thread(ticketd, "check", ledger)
        assert (checked.returncode, checked.stdout.endswith("whole\n")) == (0, True)
        assert WHOLE in checked.stdout
        if ledger != database:
            await move(waited_for, database, quiet)
    change(database, "UPDATE {}events SET waiting = 4 WHERE id = 'jazz'")
    assert await faults_of(database) == ["wrong: event jazz: 4 wait for it by its count, and 5 by its bookings"]
