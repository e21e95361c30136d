"""Damage that no checksum shows; a start on a full disk; holds of a clock that was ahead."""

import asyncio
import random
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.callbacks import commit
from tests.daemon import running, write_events
from tests.faketime import Clock
from tests.faults.daemon import Machine
from tests.ledger.sale import ticketd
from tests.ledger.waiting import make_long_line
from ticketd.ledger.base import CannotOpenError, LedgerFailedError
from ticketd.ledger.embedded import database, integrity, opening
from ticketd.ledger.embedded.files import seal_path
from ticketd.ledger.embedded.integrity import open_file
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.ledger.embedded.seal import read_seal
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply
from ticketd.wire.requests import Amend, Book, Confirm, Create, Reissue, Release, Wait

PAGE_BYTES = 4_096
BOOKINGS = 1_000


async def sold(path: Path) -> None:
    """Make a ledger whose bookings are in many pages, some of them in pages of their own."""
    ledger = EmbeddedLedger(path, 30, Clock())
    large = [Book("jazz", 600, f"large-{number}") for number in range(2)]
    await commit(ledger, Create("Jazz", Clock().time, 10_000, "jazz"), *large)
    await commit(ledger, *(Book("jazz", 1, f"b{number:04}") for number in range(BOOKINGS)))
    await ledger.close()


def leaves(path: Path, owner: str = "bookings") -> list[int]:
    """Return the pages that have bookings alone, or entries of an index."""
    with closing(open_file(path)) as file:
        pages = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
        return [page for (page,) in file.execute(pages, (owner,))]


def swap(path: Path, one: int, other: int) -> None:
    """Swap two pages."""
    with path.open("r+b") as file:
        pages = {}
        for page in (one, other):
            file.seek((page - 1) * PAGE_BYTES)
            pages[page] = file.read(PAGE_BYTES)
        for page, source in ((one, other), (other, one)):
            file.seek((page - 1) * PAGE_BYTES)
            file.write(pages[source])


async def test_swapped_pages_end_a_daemon_that_serves_a_large_ledger(tmp_path: Path, chance: random.Random) -> None:
    path = tmp_path / "events.db"
    await sold(path)
    swap(path, *chance.sample(leaves(path), 2))
    whole = path.read_bytes()
    write_events(tmp_path)
    machine = Machine(tmp_path)
    machine.checks_beside()
    with running(tmp_path, module=machine.module, env=machine.env) as daemon:
        # No client says anything.
        assert daemon.wait() == 6
        daemon.wait_line("CRITICAL the ledger failed.*events.db is damaged .SQLite: .*restore it from a backup")
    # It is not served again, whatever is accepted and however it is checked.
    for arguments in ([], ["--accept-losses"]):
        done = ticketd("--port", "0", "--events", str(tmp_path / "events.json"), *arguments)
        assert done.returncode == 5
        assert "is damaged (SQLite: " in done.stderr
    done = ticketd("check", str(path))
    assert done.returncode == 5
    assert "seal: ticketd found damage while it served the ledger: SQLite: " in done.stdout
    assert "wrong: SQLite: " in done.stdout
    assert path.read_bytes() == whole


async def test_a_damaged_ledger_takes_no_commit_once_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "CHECKED_BEFORE_BYTES_MAX", 0)
    path = tmp_path / "events.db"
    await sold(path)
    swap(path, *leaves(path)[-2:])
    ledger = EmbeddedLedger(path, 30, Clock())
    with pytest.raises(LedgerFailedError, match="damaged"):
        await ledger.check()
    with pytest.raises(LedgerFailedError, match="damaged"):
        await commit(ledger, Book("jazz", 1, "new"))


async def test_a_page_from_before_a_ticket_was_reissued_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    await sold(path)
    before = path.read_bytes()
    ledger = EmbeddedLedger(path, 30, Clock())
    [booked] = (await commit(ledger, Book("jazz", 1, "b0500"))).replies
    assert isinstance(booked, BookingReply)
    await commit(ledger, Reissue(booked.tickets[0]))
    await ledger.close()
    # The only one that differs: nothing was sold, held or cancelled.
    [changed] = [page for page in leaves(path) if page_of(before, page) != page_of(path.read_bytes(), page)]
    with path.open("r+b") as file:
        file.seek((changed - 1) * PAGE_BYTES)
        file.write(page_of(before, changed))
    assert "some of its pages are older than the others" in ticketd("check", str(path)).stdout
    with pytest.raises(CannotOpenError, match="damaged"):
        EmbeddedLedger(path, 30, Clock())


@pytest.mark.parametrize(
    ("changes", "owner", "fault"),
    [
        ([Wait("e", 1, 60, "w000050x")], "bookings", "its rows and versions add up to"),
        ([Release("w000050")], "bookings", "100 bookings wait, and their index has 99"),
        # It was the first in line.
        ([Amend("e", capacity=11)], "bookings", "0 bookings are held, and their index has 1"),
        ([Amend("e", capacity=11), Confirm("w000000")], "bookings", "100 bookings wait, and their index has 99"),
        ([Wait("e", 1, 60, "w000050x")], "line", "101 bookings wait, and their index has 100"),
        ([Release("w000050")], "line", "99 bookings wait, and their index has 100"),
        # One came and one went, so it has as many entries as before.
        ([Wait("e", 1, 60, "w000050x"), Release("w000050")], "line", "missing from index line"),
    ],
)
async def test_a_page_from_before_a_line_changed_is_noticed(
    changes: list[LedgerRequest], owner: str, fault: str, tmp_path: Path
) -> None:
    path = tmp_path / "events.db"
    await make_long_line(path, [1] * 100)
    before = path.read_bytes()
    ledger = EmbeddedLedger(path, 30, Clock())
    for change in changes:
        await commit(ledger, change)
    await ledger.close()
    [changed, *_] = [page for page in leaves(path, owner) if page_of(before, page) != page_of(path.read_bytes(), page)]
    with path.open("r+b") as file:
        file.seek((changed - 1) * PAGE_BYTES)
        file.write(page_of(before, changed))
    with pytest.raises(CannotOpenError, match=rf"is damaged \(.*{fault}"):
        EmbeddedLedger(path, 30, Clock())


def page_of(file: bytes, page: int) -> bytes:
    """Return a page of a file, counted from 1."""
    return file[(page - 1) * PAGE_BYTES : page * PAGE_BYTES]


async def test_damage_that_was_only_a_moment_of_the_disk_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "CHECKED_BEFORE_BYTES_MAX", 0)
    path = tmp_path / "events.db"
    await sold(path)
    ledger = EmbeddedLedger(path, 30, Clock())
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "first_fault", lambda connection: "a page could not be read")
        with pytest.raises(LedgerFailedError, match="a page could not be read"):
            await ledger.check()
    await ledger.close()
    assert read_seal(seal_path(path)).verdict == "a page could not be read"
    # All of it is checked before it is served, and then the verdict is gone.
    ledger = EmbeddedLedger(path, 30, Clock())
    assert ledger._database._file_check is None
    assert read_seal(seal_path(path)).verdict is None
    await commit(ledger, Book("jazz", 1, "new"))
    await ledger.close()


async def test_a_check_ends_when_the_ledger_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "CHECKED_BEFORE_BYTES_MAX", 0)
    path = tmp_path / "events.db"
    await sold(path)
    for wait in (0, 1, 2):
        ledger = EmbeddedLedger(path, 30, Clock())
        checking = asyncio.create_task(ledger.check())
        for _ in range(wait):
            await asyncio.sleep(0)
        await ledger.close()
        await checking
        assert read_seal(seal_path(path)).verdict is None


async def test_a_log_that_grows_too_long_ends_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "CHECKED_BEFORE_BYTES_MAX", 0)
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 1)
    monkeypatch.setattr(database, "LOG_PAGES_MAX", 20)
    path = tmp_path / "events.db"
    await sold(path)
    ledger = EmbeddedLedger(path, 30, Clock())
    before = path.read_bytes()
    for number in range(20):
        await commit(ledger, Book("jazz", 1, f"during-{number}"))
    assert path.read_bytes() != before
    assert "left to the next start" in caplog.text
    # It had not begun, and does not any more.
    monkeypatch.setattr(integrity, "first_fault", None)
    await ledger.check()
    await ledger.close()


async def test_a_file_does_not_change_while_it_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "CHECKED_BEFORE_BYTES_MAX", 0)
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 1)
    path = tmp_path / "events.db"
    await sold(path)
    ledger = EmbeddedLedger(path, 30, Clock())
    before = path.read_bytes()
    for number in range(3):
        await commit(ledger, Book("jazz", 1, f"during-{number}"))
    assert path.read_bytes() == before
    await ledger.check()
    await commit(ledger, Book("jazz", 1, "after"))
    assert path.read_bytes() != before
    await ledger.close()
    # One that ends before its check has ended is whole too.
    ledger = EmbeddedLedger(path, 30, Clock())
    await commit(ledger, Book("jazz", 1, "late"))
    await ledger.close()
    assert not path.with_name("events.db-wal").exists()


async def test_bookings_that_swapped_their_further_pages_are_found(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    await sold(path)
    with closing(open_file(path)) as file:
        pages = "SELECT path, pageno FROM dbstat WHERE name = 'bookings' AND pagetype = 'overflow' ORDER BY path"
        chains: dict[str, list[int]] = {}
        for place, page in file.execute(pages):
            chains.setdefault(place.partition("+")[0], []).append(page)
    # Both are the last ones of their bookings.
    one, other = (chain[-1] for chain in list(chains.values())[:2])
    swap(path, one, other)
    done = ticketd("check", str(path))
    assert "wrong: 2 bookings are not as they were saved" in done.stdout
    assert done.returncode == 5
    done = ticketd("move", str(path), str(tmp_path / "new.db"))
    assert "2 bookings are not as they were saved" in done.stderr
    assert done.returncode == 5


def test_a_start_on_a_full_disk_serves_reads_and_sells_later(tmp_path: Path) -> None:
    write_events(tmp_path, 10_000)
    machine = Machine(tmp_path)
    options = {"module": machine.module, "env": machine.env}
    with running(tmp_path, **options) as daemon, daemon.connect() as connection:
        for number in range(300):
            connection.ask(f"book 1 1 --booking b{number}-{'x' * 50}")
        with machine.is_full():
            assert daemon.end() == 0
    assert (tmp_path / "events.db-wal").stat().st_size
    with machine.is_full(), running(tmp_path, **options) as daemon, daemon.connect() as connection:
        daemon.wait_line("WARNING the disk is full: reads are served, and nothing can be sold until there is room")
        assert connection.ask("show 1")["sold"] == 300
        assert connection.ask(f"book 1 1 --booking b7-{'x' * 50}")["replayed"]
        assert connection.ask("book 1 1")["code"] == "storage_full"
        assert daemon.end() == 0
    with running(tmp_path, **options) as daemon, daemon.connect() as connection:
        assert connection.ask("book 1 1")["version"] == 301


def test_holds_of_a_clock_that_was_ahead_are_told_at_the_start(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    machine = Machine(tmp_path)
    options = {"module": machine.module, "env": machine.env}
    with running(tmp_path, **options) as daemon, daemon.connect() as connection:
        connection.ask("hold 1 1 --seconds 86400")
        machine.move_clock(timedelta(days=3_652))
        for _ in range(2):
            assert connection.ask("hold 1 2 --seconds 60")["state"] == "held"
        machine.move_clock(timedelta(days=-3_652))
    with running(tmp_path, **options) as daemon, daemon.connect() as connection:
        daemon.wait_line(r"WARNING holds=2 run out more than 86400 s from now, the last of them at 20[3-9]\d-")
        # The one before was over when the clock was ahead.
        assert connection.ask("show 1")["held"] == 4
