"""A sale with everything in it that a ledger can hold, and what is in a ledger, byte for byte."""

import asyncio
import shlex
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
from msgspec import UNSET, UnsetType

from tests import forked
from tests.conftest import SECONDS_MAX, environment
from tests.postgres import query
from ticketd.ledger.base import Answers, CannotOpenError, Ledger
from ticketd.ledger.embedded.files import load_checksums, load_digests
from ticketd.ledger.embedded.ledger import EmbeddedLedger, system_clock
from ticketd.ledger.embedded.schema import TOTAL
from ticketd.ledger.move import move
from ticketd.ledger.postgres.ledger import PostgresLedger
from ticketd.ledger.postgres.url import is_database_url, without_password
from ticketd.ledger.rows import TABLES
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply, ErrorReply, Reply
from ticketd.wire.requests import (
    Amend,
    Annul,
    Book,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Redeem,
    Reissue,
    Release,
)

COMMIT_SECONDS_MAX = 30.0
DATE = datetime(2028, 2, 29, 20, 0, 0, 123456, tzinfo=UTC)
EVENTS = ["jazz", "blues", "ample"]
BUYER = "Order 7\\8 “Zoë” \"'"
SELLER, DOOR = "box-1", "user:Door\\2"
SUMMARY = "moved 3 events, 10 bookings, 1,015 tickets"


async def commit(ledger: Ledger, request: LedgerRequest, actor: str | None = None) -> Reply:
    """Return the reply to one request of somebody, which must be granted, once it is durable."""
    answer: asyncio.Future[Answers | Exception] = asyncio.get_running_loop().create_future()
    result = ledger.transact([request], answer.set_result, [actor]) or await answer
    if isinstance(result, Exception):
        raise result
    [reply] = result.replies
    assert not isinstance(reply, ErrorReply), reply
    return reply


async def make_sale(path: Path) -> None:
    """Make an embedded ledger at ``path`` with three events, and bookings and tickets in every state.

    Two more events were deleted, one of which is there again.
    """
    late = 0
    ledger = EmbeddedLedger(path, COMMIT_SECONDS_MAX, lambda: system_clock() + late)

    async def tickets(booking: str, quantity: int, buyer: str | UnsetType = UNSET) -> list[str]:
        reply = await commit(ledger, Book("jazz", quantity, booking, buyer))
        assert isinstance(reply, BookingReply)
        return reply.tickets

    await commit(ledger, Create('Zürich “Jazz” "\\"', DATE, 2_000, "jazz", available=1_990))
    await commit(ledger, Create("Blues", datetime(1, 1, 1, tzinfo=UTC), 3, "blues"))
    for id_ in ("ample", "deleted"):
        await commit(ledger, Create("A mistake", DATE, 7, id_))
        await commit(ledger, Delete(id_))
    last = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    await commit(ledger, Create("Ample", last, 7, "ample", opens=DATE, closes=last, paused=True, per_buyer=1_000))
    await commit(ledger, Amend("ample", opens=datetime(1, 1, 1, tzinfo=UTC), per_buyer=4))
    await commit(ledger, Amend("jazz", name="Jazz, amended", capacity=2_500))
    await commit(ledger, Hold("jazz", 2, 30, "expired"))
    await commit(ledger, Hold("jazz", 3, 30, "late", BUYER), SELLER)
    late = 31_000
    await commit(ledger, Confirm("late", late=True))
    await commit(ledger, Book("blues", 3, "sold-out"), SELLER)
    await commit(ledger, Hold("jazz", 4, 3_600, "held", BUYER))
    await commit(ledger, Extend("held", 80_000), SELLER)
    await commit(ledger, Extend("held", 86_400))
    await commit(ledger, Hold("jazz", 2, 60, "released"))
    await commit(ledger, Release("released"), SELLER)
    await commit(ledger, Hold("jazz", 2, 60, "confirmed"))
    await commit(ledger, Confirm("confirmed"), SELLER)
    some = await tickets("cancelled-in-part", 3)
    await commit(ledger, Cancel("cancelled-in-part", some[:1]), SELLER)
    await commit(ledger, Redeem(some[1], scan="door-1"), DOOR)
    await commit(ledger, Reissue(some[2]))
    used = await tickets("annulled", 2, "anna@example.org")
    await commit(ledger, Redeem("annulled", "jazz", "door-2"), DOOR)
    await commit(ledger, Annul(used[0], "jazz", 'Wrong "door" \\ \u20ac'))
    await commit(ledger, Annul(used[1]), DOOR)
    await commit(ledger, Redeem(used[1], scan="door-3"))
    await commit(ledger, Reissue(used[0]))
    await tickets("cancelled", 2)
    await commit(ledger, Cancel("cancelled"))
    await tickets("large", 1_000)
    await ledger.close()


def rows_in(ledger: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of the sale in a ledger, as it keeps them."""
    rows = {}
    for table in TABLES:
        select = f"SELECT {table.columns} FROM {{}}{table.name} ORDER BY {table.order}"
        if is_database_url(ledger):
            rows[table.name] = [tuple(row) for row in query(ledger, select.format("ticketd."))]
        else:
            with closing(sqlite3.connect(ledger)) as connection:
                rows[table.name] = connection.execute(select.format("")).fetchall()
    return rows


def change(ledger: str, statement: str) -> None:
    """Change a ledger behind its back; the checksums and the total of an embedded one are right."""
    if is_database_url(ledger):
        query(ledger, statement.replace("{}", "ticketd."))
        return
    load_checksums()
    with closing(apsw.Connection(ledger)) as connection:
        load_digests(connection)
        connection.pragma("ignore_check_constraints", True)
        connection.execute(statement.replace("{}", ""))
        connection.execute(f"UPDATE ledger SET total = {TOTAL}")


async def open_ledger(ledger: str) -> Ledger:
    """Open a ledger as a daemon does."""
    if is_database_url(ledger):
        return await PostgresLedger.open(ledger, COMMIT_SECONDS_MAX)
    return EmbeddedLedger(Path(ledger), COMMIT_SECONDS_MAX)


async def events_on_sale(ledger: str) -> list[str] | CannotOpenError:
    """Return which events a daemon would sell from a ledger, or why it would not start."""
    if not is_database_url(ledger) and not await asyncio.to_thread(Path(ledger).exists):
        return []
    try:
        opened = await open_ledger(ledger)
    except CannotOpenError as error:
        return error
    events = [event.id for event in await opened.events()]
    await opened.close()
    return events


def quiet(what: str, done: int, total: int) -> None:
    """Report nothing of a move."""


def ticketd(*arguments: str, module: str = "ticketd") -> subprocess.CompletedProcess[str]:
    """Run ticketd to its end."""
    return forked.run(module, arguments, environment(), SECONDS_MAX)


async def refused(source: str, target: str) -> str:
    """Return why a move is refused, in one line."""
    done = await asyncio.to_thread(ticketd, "move", source, target)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def command(source: str, target: str) -> str:
    """Return the command that finishes a move, as refusals show it."""
    return shlex.join(["ticketd", "move", without_password(source), without_password(target)])


async def finish(source: str, target: str) -> None:
    """Run a move again; if it had ended already, that is what it says."""
    try:
        await move(source, target, quiet)
    except CannotOpenError as error:
        assert "was moved to" in str(error)
    at_source = await events_on_sale(source)
    assert isinstance(at_source, CannotOpenError)
    assert f"start ticketd with --ledger {target}" in str(at_source)
    assert await events_on_sale(target) == EVENTS
