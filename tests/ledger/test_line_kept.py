"""Waiting lists in one file outlive kills, failed commits and full disks, and go along with backups and moves."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from tests.callbacks import Outcome
from tests.faketime import Clock
from tests.faults.disk import RealDisk, plugged
from tests.ledger.sale import quiet
from tests.ledger.waiting import Sale, codes, faults_of, waits
from ticketd.ledger.base import StorageFullError
from ticketd.ledger.move import move
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import ErrorReply
from ticketd.wire.requests import Amend, Backup, Book, Cancel, Confirm, Release

FULL = ErrorReply("storage_full", "full")


@pytest.fixture
async def sale(tmp_path: Path) -> AsyncIterator[Sale]:
    sale = Sale(tmp_path / "ledger", Clock())
    await sale.begin()
    yield sale
    await sale.close()


# Restarts, and commits that fail


async def test_a_kill_after_each_commit_changes_nothing(sale: Sale, tmp_path: Path) -> None:
    other = Sale(tmp_path / "other", sale.clock)
    await other.begin()
    steps: list[list[LedgerRequest]] = [
        waits(a=3, b=1, c=2),
        [*waits(d=1), Cancel("s")],
        [Release("c"), Confirm("b"), *waits(f=2, g=1)],
        [Amend("e", paused=True), Cancel("t"), Release("d")],
        [*waits(late=1)],
        [Amend("e", paused=False, capacity=7)],
        [Book("e", 1, "public")],
        [],
        [Cancel("b")],
        [],
    ]
    seen: set[str | int] = set()
    for step in steps:
        sale.clock.move(10)
        assert await sale.offers(*step) == await other.offers(*step)
        await sale.kill()
        assert sale.line() == other.line()
        assert await sale.ledger.events() == await other.ledger.events()
        seen.update(other.line().values())
    assert seen >= {"held", "confirmed", "cancelled", "released", "expired", 1, 2, 3}
    await other.close()
    assert await faults_of(tmp_path / "other" / "events.db") == ["whole"]


async def test_holds_that_ended_before_the_start_are_offered_in_the_first_commit(sale: Sale) -> None:
    await sale.commit(*waits(a=1, b=2, c=1))
    sale.clock.move(3_600)
    await sale.kill()
    assert sale.ledger.next_expiry is not None
    assert sale.ledger.next_expiry <= sale.clock()
    assert await sale.codes(Book("e", 1, "public")) == ["sold_out"]
    assert sale.line() == {"a": "held", "b": 1, "c": "held"}


async def test_a_commit_that_fails_leaves_the_line_as_it_was(sale: Sale) -> None:
    # The next commit has something to offer whatever it is asked.
    await sale.commit(*waits(a=2, b=1, c=1), Amend("e", opens=sale.clock.time + timedelta(seconds=10)), Cancel("s"))
    await sale.close()
    sale.clock.move(10)
    disk = RealDisk()
    with plugged(disk):
        await sale.open()
        before = sale.line(), await sale.left(), sale.ledger.next_expiry
        requests = [Release("b"), *waits(d=1)]
        bug = "BEFORE UPDATE ON main.ledger BEGIN SELECT RAISE(ABORT, 'a bug'); END"
        sale.ledger._connection.execute(f"CREATE TEMP TRIGGER bug {bug}")
        with pytest.raises(apsw.ConstraintError, match="a bug"):
            await sale.commit(*requests)
        sale.ledger._connection.execute("DROP TRIGGER bug")
        disk.full = True
        for _ in range(2):
            with pytest.raises(StorageFullError):
                await sale.commit(*requests)
        assert (sale.line(), await sale.left(), sale.ledger.next_expiry) == before
        disk.full = False
        assert await sale.offers(*requests) == ["a"]
        assert sale.line() == {"a": "held", "b": "released", "c": 1, "d": 2}
        await sale.close()


async def test_on_a_full_disk_a_line_stays_and_replays_are_answered(sale: Sale) -> None:
    await sale.commit(*waits(a=1, b=1), Amend("e", opens=sale.clock.time + timedelta(seconds=10)), Cancel("s"))
    sale.clock.move(10)
    requests = [Book("e", 2, "s"), *waits(a=1, c=1), Release("b"), Book("e", 5, "p"), Book("e", 1, "q")]
    answers = sale.ledger.without_commit(requests, FULL, _never)
    assert answers
    # Both could be offered tickets now, and are not.
    assert codes(answers.replies) == [
        "confirmed",
        "waiting",
        "storage_full",
        "storage_full",
        "sold_out",
        "storage_full",
    ]
    assert (sale.line(), await sale.left()) == ({"a": 1, "b": 2}, (2, 2))


def _never(result: object) -> None:
    raise AssertionError(f"this is not told later: {result}")


# Copies


async def test_a_backup_goes_on_with_the_line(sale: Sale, tmp_path: Path) -> None:
    await sale.commit(*waits(a=3, b=1, c=2))
    outcome = Outcome()
    assert sale.ledger.read([Backup("friday")], outcome) is None
    await outcome.told()
    backup = tmp_path / "ledger" / "backups" / "friday.db"
    assert await faults_of(backup) == ["whole"]
    copy = Sale(tmp_path / "copy", sale.clock)
    (tmp_path / "copy").mkdir()
    for end in ("", "-seal"):
        backup.with_name(f"friday.db{end}").rename(tmp_path / "copy" / f"events.db{end}")
    await copy.open()
    assert copy.line() == {"a": 1, "b": 2, "c": 3}
    assert await copy.offers(Cancel("s"), Release("h")) == ["b", "a"]
    await copy.close()


async def test_a_move_keeps_the_line(sale: Sale, tmp_path: Path) -> None:
    await sale.commit(*waits(z=1, y=2, x=1), Amend("e", paused=True))
    await sale.commit(Cancel("s"), Release("y"))
    await sale.close()
    target = tmp_path / "moved" / "events.db"
    target.parent.mkdir()
    await move(str(tmp_path / "ledger" / "events.db"), str(target), quiet)
    assert await faults_of(target) == ["whole"]
    moved = Sale(target.parent, sale.clock)
    await moved.open()
    assert moved.line() == {"x": 2, "y": "released", "z": 1}
    assert await moved.offers(Amend("e", paused=False)) == ["z", "x"]
    await moved.close()
