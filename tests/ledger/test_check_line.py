"""``ticketd check`` and waiting lists: a whole one is called whole, and damage is found and named."""

import re
from pathlib import Path

import pytest

from tests.ledger.sale import DATE, change, commit, open_ledger, quiet
from tests.ledger.test_check import CONSTRAINTS
from tests.postgres import query
from ticketd.ledger.check import check
from ticketd.ledger.move import move
from ticketd.wire.requests import Amend, Book, Confirm, Create, Release, Wait

CHANGES = "UPDATE {}bookings SET changes = '%s' WHERE id = '%s'"
# What is done to a ledger of either kind, and what is said of it.
DAMAGES = {
    "too many wait": (
        "UPDATE {}events SET waiting = 3 WHERE id = 'e'",
        r"event e: 3 wait for it by its count, and 2 by its bookings$",
    ),
    "who waits is forgotten": (
        "DELETE FROM {}bookings WHERE id = 'w1'",
        r"event e: 2 wait for it by its count, and 1 by its bookings$",
    ),
    "who waits has a ticket": (
        "UPDATE {}bookings SET tickets = '[\"0123456789ab\"]' WHERE id = 'w1'",
        r"booking w1 of event e: it is waiting and has 1 tickets, not 0$",
    ),
    "who waits runs out": (
        "UPDATE {}bookings SET expires = 5 WHERE id = 'w1'",
        r"booking w1 of event e: it runs out at 5, by its changes at None$",
    ),
    "who waits would hold for ever": (
        "UPDATE {}bookings SET seconds = NULL WHERE id = 'w1'",
        r"booking w1 of event e: it is waiting, and its changes led to confirmed$",
    ),
    "an offer is forgotten": (
        "UPDATE {}bookings SET changes = NULL, state = 'waiting', expires = NULL WHERE id = 'held'",
        r"event e: 1 are held by its count, and 0 by its bookings$",
    ),
    "who was offered tickets waits on": (
        "UPDATE {}bookings SET state = 'waiting' WHERE id = 'held'",
        r"booking held of event e: it is waiting, and its changes led to held$",
    ),
    "an offer does not run out": (
        CHANGES % ('[["offer",0,6,5]]', "held"),
        r"booking held of event e: it was offered its tickets until None, not until 60005$",
    ),
    "an offer runs out late": (
        "UPDATE {}bookings SET expires = expires + 1 WHERE id = 'held'",
        r"booking held of event e: it runs out at \d+, by its changes at \d+$",
    ),
    "tickets are offered twice": (
        CHANGES % ('[["offer",0,6,5,[],60005],["offer",0,7,5,[],60005]]', "held"),
        r"booking held of event e: its turn in line came after it had changed: offer$",
    ),
    "who left waits on": (
        "UPDATE {}bookings SET state = 'waiting' WHERE id = 'left'",
        r"booking left of event e: it is waiting, and its changes led to released$",
    ),
    "who left was never in line": (
        "UPDATE {}bookings SET changes = NULL WHERE id = 'left'",
        r"booking left of event e: it is released, and its changes led to held$",
    ),
    "who leaves had tickets": (
        CHANGES % ('[["offer",0,6,5,[],60005],["leave",0,7,6]]', "left"),
        r"booking left of event e: its turn in line came after it had changed: leave$",
    ),
}


@pytest.fixture(params=["sqlite", "postgres"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger of either kind with a line. Two were offered tickets, one has left, and two wait."""
    path = str(tmp_path / "events.db")
    ledger = await open_ledger(path)
    await commit(ledger, Create("E", DATE, 1, "e"))
    await commit(ledger, Book("e", 1, "sold"))
    for id_ in ("confirmed", "held", "left", "w1", "w2"):
        await commit(ledger, Wait("e", 1, 60, id_))
    await commit(ledger, Release("left"))
    await commit(ledger, Amend("e", capacity=3))
    await commit(ledger, Confirm("confirmed"))
    await ledger.close()
    if request.param == "sqlite":
        return path
    database: str = request.getfixturevalue("database")
    await move(path, database, quiet)
    query(database, CONSTRAINTS)
    return database


async def said_of(ledger: str) -> list[str]:
    said: list[str] = []
    await check(ledger, said.append)
    return said


async def test_a_line_is_whole(ledger: str) -> None:
    said = await said_of(ledger)
    assert said[-1] == "whole"
    assert "bookings: 6 (2 confirmed, 1 held, 1 released, 2 waiting);" in " ".join(said)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_to_a_line_is_found_and_named(damage: str, ledger: str) -> None:
    statement, expected = DAMAGES[damage]
    change(ledger, statement)
    wrong = [line.removeprefix("wrong: ") for line in await said_of(ledger) if line.startswith("wrong: ")]
    assert [line for line in wrong if re.match(expected, line)], wrong
