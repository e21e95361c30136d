"""``ticketd move``: the same sale in another ledger."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect

from tests.conftest import SECONDS_MAX, TERMINAL_SIZE, ctl, environment
from tests.daemon import Daemon, running, write_events
from tests.ledger.sale import (
    DATE,
    DOOR,
    EVENTS,
    SELLER,
    SUMMARY,
    commit,
    events_on_sale,
    open_ledger,
    quiet,
    rows_in,
    ticketd,
)
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.move import move
from ticketd.ledger.postgres.url import public_name
from ticketd.wire.requests import Create


def pages(daemon: Daemon) -> list[object]:
    """Return all that a daemon says of its events and bookings, page by page."""
    with daemon.connect() as connection:
        found = [connection.ask("list"), connection.ask("bookings")]
        while found[-1].get("more"):
            last = found[-1]["bookings"][-1]["id"]
            found.append(connection.ask(f'{{"cmd":"bookings","after":"{last}"}}'))
        return [*found]


async def test_a_sale_goes_to_another_file_as_it_was(sale: str, tmp_path: Path) -> None:
    before, target = rows_in(sale), str(tmp_path / "target.db")
    moved = await asyncio.to_thread(ticketd, "move", sale, target)
    assert moved.stdout == f"{SUMMARY} from {sale} to {target}\n"
    assert (moved.returncode, moved.stderr) == (0, "")
    assert rows_in(target) == before
    assert await events_on_sale(target) == EVENTS


async def test_a_sale_goes_to_a_database_and_back_as_it_was(sale: str, database: str, tmp_path: Path) -> None:
    before, back = rows_in(sale), str(tmp_path / "back.db")
    moved = await asyncio.to_thread(ticketd, "move", sale, database)
    assert moved.stdout == f"{SUMMARY} from {sale} to postgresql://{public_name(database)}\n"
    assert (moved.returncode, moved.stderr) == (0, "")
    assert {name: len(rows) for name, rows in rows_in(database).items()} == {
        name: len(rows) for name, rows in before.items()
    }
    await move(database, back, quiet)
    assert rows_in(back) == before


async def test_a_sale_goes_from_one_database_to_another(sale: str, database: str, another_database: str) -> None:
    await move(sale, database, quiet)
    await move(database, another_database, quiet)
    assert rows_in(another_database) == rows_in(database)


def daemons(sale: str, database: str, folder: Path) -> Iterator[Daemon]:
    """Yield a daemon on the sale, then one after each move of it, the last one on a file again."""
    other, back = str(folder / "other.db"), str(folder / "back.db")
    write_events(folder)
    for source, ledger in ((None, sale), (sale, other), (other, database), (database, back)):
        if source:
            assert ticketd("move", source, ledger).returncode == 0
        with running(folder, "--ledger", ledger) as daemon:
            yield daemon
            assert daemon.end() == 0


def test_daemons_show_the_same_after_each_move(sale: str, database: str, tmp_path: Path) -> None:
    seen = []
    for daemon in daemons(sale, database, tmp_path):
        seen.append(pages(daemon))
        with daemon.connect() as connection:
            again = '{"cmd":"book","event":"blues","quantity":3,"booking":"sold-out"}'
            assert connection.ask(again)["replayed"]
    # A booking of 1,000 tickets fills a page.
    assert len(seen[0]) == 4
    assert all(shown == seen[0] for shown in seen)


def test_a_move_keeps_who_did_what(sale: str, database: str, tmp_path: Path) -> None:
    for daemon in daemons(sale, database, tmp_path):
        with daemon.connect() as connection:
            late = connection.ask("show late")
            used = connection.ask("show annulled")["redeemed"][0]
            door = connection.ask(f"show {used}")["history"]
            sold_out = connection.ask("show sold-out")
        assert (late["by"], [change.get("by") for change in late["changes"]]) == (SELLER, [None, None])
        assert [each.get("by") for each in door] == [DOOR, DOOR, None]
        assert sold_out["by"] == SELLER


def test_reports_are_the_same_after_each_move(sale: str, database: str, tmp_path: Path) -> None:
    seen = []
    for daemon in daemons(sale, database, tmp_path):
        reports = [ctl("export", what, port=daemon.port) for what in ("events", "bookings", "tickets")]
        assert [report.stdout.count("\n") for report in reports] == [3, 10, 1_015]
        seen.append([report.stdout for report in reports])
    assert all(shown == seen[0] for shown in seen)


async def test_new_events_come_after_those_that_were_moved(sale: str, database: str) -> None:
    await move(sale, database, quiet)
    ledger = await open_ledger(database)
    await commit(ledger, Create("New", DATE, 5, "a-new-one"))
    await ledger.close()
    assert await events_on_sale(database) == [*EVENTS, "a-new-one"]


async def test_an_empty_sale_can_be_moved(tmp_path: Path) -> None:
    source, target = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    await asyncio.to_thread(Path(source).touch)
    assert await events_on_sale(source) == []
    moved = await asyncio.to_thread(ticketd, "move", source, target)
    assert moved.stdout.startswith("moved 0 events, 0 bookings, 0 tickets from ")
    assert isinstance(await events_on_sale(source), CannotOpenError)


async def test_a_terminal_shows_how_far_a_move_is(sale: str, tmp_path: Path) -> None:
    def run() -> str:
        child = pexpect.spawn(
            sys.executable,
            ["-m", "ticketd", "move", sale, str(tmp_path / "target.db")],
            env=environment(TERM="xterm"),
            dimensions=TERMINAL_SIZE,
            encoding="utf-8",
            timeout=SECONDS_MAX,
        )
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0
        shown: str = child.before
        return shown

    shown = await asyncio.to_thread(run)
    assert "21/21" in shown
    assert SUMMARY in shown
