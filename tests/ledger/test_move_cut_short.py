"""``ticketd move`` that is cut short anywhere: never do two ledgers sell, and the same command finishes it."""

import asyncio
import itertools
import random
import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest

from tests.daemon import Daemon, write_events
from tests.faults.proxy import Fault, Proxy, Side
from tests.ledger.interrupted import killed_at
from tests.ledger.sale import (
    EVENTS,
    SUMMARY,
    command,
    commit,
    events_on_sale,
    finish,
    open_ledger,
    quiet,
    rows_in,
    ticketd,
)
from tests.postgres import Server, query
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.move import move
from ticketd.wire.requests import Book

KINDS = ["file to file", "file to database", "database to file", "database to database"]
SIDES: list[Side] = ["client", "server"]


async def see_what_is_on_sale(source: str, target: str) -> None:
    """See that at most one of the two sells, and whatever sells, sells everything."""
    at_source, at_target = await events_on_sale(source), await events_on_sale(target)
    assert at_source == EVENTS or (isinstance(at_source, CannotOpenError) and "was moved to" in str(at_source))
    assert at_target in (EVENTS, []) or (isinstance(at_target, CannotOpenError) and "was cut short" in str(at_target))
    assert [at_source, at_target].count(EVENTS) <= 1, "both sell"
    if at_source != EVENTS and at_target != EVENTS:
        assert f"finish it: {command(source, target)}" in str(at_source)
        assert f"finish it: {command(source, target)}" in str(at_target)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_move_killed_at_any_step_never_lets_both_sell(
    kind: str, sale: str, tmp_path: Path, postgres: Server
) -> None:
    databases = [postgres.new_database() for _ in range(kind.count("database"))]
    for step in itertools.count(1):
        source, target = str(tmp_path / f"from-{step}.db"), str(tmp_path / f"to-{step}.db")
        shutil.copy(sale, source)
        shutil.copy(f"{sale}-seal", f"{source}-seal")
        for database in databases:
            postgres.clear(database)
        if kind.startswith("database"):
            file, source = source, databases[0]
            await move(file, source, quiet)
        if kind.endswith("database"):
            target = databases[-1]
        before = rows_in(source)
        killed = await asyncio.to_thread(killed_at, str(step), source, target)
        await see_what_is_on_sale(source, target)
        await finish(source, target)
        if kind in ("file to file", "database to database"):
            assert rows_in(target) == before
        if not killed:
            break
    for database in databases:
        postgres.give_back(database)
    assert step > 10


async def test_what_is_sold_after_a_kill_is_moved_the_next_time(sale: str, database: str) -> None:
    assert await asyncio.to_thread(killed_at, "marking the source", sale, database)
    ledger = await open_ledger(sale)
    await commit(ledger, Book("jazz", 2, "sold-meanwhile"))
    await ledger.close()
    await move(sale, database, quiet)
    assert "sold-meanwhile" in [row[0] for row in rows_in(database)["bookings"]]


async def test_the_command_in_a_refusal_finishes_the_move(sale: str, tmp_path: Path, database: str) -> None:
    assert await asyncio.to_thread(killed_at, "lifting the mark of the target", sale, database)
    write_events(tmp_path)
    for ledger in (sale, database):
        daemon = Daemon("--ledger", ledger, "--events", str(tmp_path / "events.json"))
        assert daemon.wait() == 5
        last = daemon.lines[-1]
        assert last.startswith("ticketd: ")
    found = re.search(r"finish it: (ticketd move \S+ \S+)\. ", last)
    assert found
    moved = await asyncio.to_thread(ticketd, *shlex.split(found[1])[1:])
    assert moved.stdout.startswith(SUMMARY)
    assert await events_on_sale(database) == EVENTS


async def test_ctrl_c_leaves_the_source_on_sale(sale: str, database: str, tmp_path: Path) -> None:
    for target in (database, str(tmp_path / "to.db")):
        arguments = ["copying bookings", str(int(signal.SIGINT)), sale, target]
        moved = await asyncio.to_thread(ticketd, *arguments, module="tests.ledger.interrupted")
        assert (moved.returncode, moved.stdout) == (130, "")
        assert moved.stderr == "ticketd: interrupted; the same command finishes it\n"
        assert await events_on_sale(sale) == EVENTS
        at_target = await events_on_sale(target)
        assert at_target == [] or isinstance(at_target, CannotOpenError)


@pytest.mark.parametrize("side", SIDES)
async def test_a_cut_connection_never_lets_both_sell(
    side: Side, sale: str, database: str, tmp_path: Path, chance: random.Random
) -> None:
    # It may take some seconds: what is cut is every tenth message.
    with Proxy(database) as proxy:
        for passed in itertools.count(chance.randrange(10), 10):
            source = str(tmp_path / f"from-{passed}.db")
            shutil.copy(sale, source)
            shutil.copy(f"{sale}-seal", f"{source}-seal")
            proxy.inject([Fault(side, "message", passed, chance.choice([0.0, 0.5, 1.0]), "reset")])
            try:
                await move(source, proxy.url, quiet)
            except CannotOpenError as error:
                assert "database" in str(error)
            proxy.inject([])
            unharmed = proxy.struck.empty()
            while not proxy.struck.empty():
                proxy.struck.get()
            await see_what_is_on_sale(source, proxy.url)
            await finish(source, proxy.url)
            query(database, "DROP SCHEMA ticketd CASCADE")
            if unharmed:
                break
    assert passed > 20
