"""``backup``: what has a name is whole and has all that was acknowledged, sales go on, and a failure leaves nothing."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import msgspec
import pytest

from tests.callbacks import Outcome, commit
from tests.daemon import running, write_events
from tests.faults.disk import RealDisk, plugged
from tests.ledger.sale import DATE, make_sale, rows_in, ticketd
from tests.ledgers import COMMIT_SECONDS_MAX, result_of
from ticketd.ledger.base import Answers
from ticketd.ledger.check import check
from ticketd.ledger.embedded import database, opening
from ticketd.ledger.embedded.files import size_of
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.ledger.postgres.ledger import PostgresLedger
from ticketd.wire.replies import BackupReply, ErrorReply, Reply
from ticketd.wire.requests import Backup, Book, Create, Show


class PartDisk(RealDisk):
    """A disk that asks ``before_write`` with the name of the file before each write to a part of a backup."""

    def __init__(self, before_write: Callable[[str], None]) -> None:
        super().__init__()
        self._before_write = before_write

    def open(self, name: str, flags: list[int]) -> Any:
        if ".part" not in name:
            return super().open(name, flags)
        return _PartFile(self._before_write, name, flags)


class _PartFile(apsw.VFSFile):
    def __init__(self, before_write: Callable[[str], None], name: str, flags: list[int]) -> None:
        self._before_write, self._name = before_write, name
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._before_write(self._name)
        super().xWrite(data, offset)


class Pause:
    """Stops a backup before it copies the file of the ledger; its log was copied."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.may_go_on = threading.Event()

    def __call__(self, name: str) -> None:
        if name.endswith(".part"):
            self.reached.set()
            assert self.may_go_on.wait(30)


def begin(ledger: EmbeddedLedger, name: str) -> Outcome:
    outcome = Outcome()
    assert ledger.read([Backup(name)], outcome) is None
    return outcome


async def answer(outcome: Outcome) -> Reply:
    [reply] = (await outcome.told()).replies
    return reply


async def back_up(ledger: EmbeddedLedger, name: str) -> Reply:
    return await answer(begin(ledger, name))


def in_backups(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "backups").iterdir())


async def opened(folder: Path) -> EmbeddedLedger:
    ledger = EmbeddedLedger(folder / "events.db", COMMIT_SECONDS_MAX)
    if not await ledger.events():
        await commit(ledger, Create("Jazz", DATE, 100_000, "jazz"))
    return ledger


async def faults_of(ledger: Path) -> list[str]:
    said: list[str] = []
    await check(str(ledger), said.append)
    return [line for line in said if line.startswith("wrong")] or said[-1:]


async def sold_in(ledger: Path) -> int:
    """Return how many tickets are sold in a backup, opened as it is."""
    backup = EmbeddedLedger(ledger, COMMIT_SECONDS_MAX)
    [event] = await backup.events()
    await backup.close()
    return event.sold


# What is in it


async def test_a_backup_takes_no_log_that_is_in_the_file_already(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    await commit(ledger, Book("jazz", 2, "in-the-file"))
    await ledger.close()
    pause = Pause()
    with plugged(PartDisk(pause)):
        ledger = await opened(tmp_path)
        outcome = begin(ledger, "friday")
        await asyncio.to_thread(pause.reached.wait)
        assert in_backups(tmp_path) == ["events.db.part"]
        await commit(ledger, Book("jazz", 2, "later"))
        pause.may_go_on.set()
        reply = await answer(outcome)
        await ledger.close()
    assert isinstance(reply, BackupReply)
    backup = tmp_path / "backups" / "friday.db"
    assert (await faults_of(backup), await sold_in(backup)) == (["whole"], 2)


async def test_a_backup_is_the_ledger_at_one_commit(tmp_path: Path) -> None:
    await make_sale(tmp_path / "events.db")
    ledger = await opened(tmp_path)
    # Some of it in the log, some in the file.
    await commit(ledger, Book("jazz", 2, "in-the-log"))
    reply = await back_up(ledger, "friday")
    await commit(ledger, Book("jazz", 2, "later"))
    await ledger.close()
    backup = tmp_path / "backups" / "friday.db"
    assert isinstance(reply, BackupReply)
    assert (reply.name, reply.bytes, in_backups(tmp_path)) == (
        "friday",
        backup.stat().st_size,
        ["friday.db", "friday.db-seal"],
    )
    assert await faults_of(backup) == ["whole"]
    rows, later = rows_in(str(backup)), rows_in(str(tmp_path / "events.db"))
    assert later["bookings"].pop([row[0] for row in later["bookings"]].index("later"))
    assert rows["bookings"] == later["bookings"]
    for table in ("redemptions", "removals"):
        assert rows[table] == later[table]
    seal = backup.with_name("friday.db-seal").read_bytes()
    assert f"{reply.commits:020d} commits acknowledged".encode() in seal


def test_backups_under_load_have_all_that_was_acknowledged(tmp_path: Path) -> None:
    write_events(tmp_path, 100_000)
    sold: list[None] = []
    ends = threading.Event()

    def sell() -> None:
        with daemon.connect() as connection:
            while not ends.is_set():
                assert connection.ask("book 1 1")["reply"] == "booking"
                sold.append(None)

    with running(tmp_path) as daemon, daemon.connect() as admin:
        seller = threading.Thread(target=sell)
        seller.start()
        at_least = []
        commits = []
        for number in range(5):
            at_least.append(len(sold))
            reply = admin.ask(f"backup b{number}")
            commits.append(reply["commits"])
            # The adoption of the event was a commit too.
            assert reply["commits"] > at_least[-1]
        ends.set()
        seller.join()
    assert sorted(set(commits)) == commits, "each has more than the one before"
    for number, least in enumerate(at_least):
        backup = tmp_path / "backups" / f"b{number}.db"
        assert asyncio.run(faults_of(backup)) == ["whole"]
        assert least <= asyncio.run(sold_in(backup)) == commits[number] - 1
    for path in (tmp_path / "backups", *(tmp_path / "backups").iterdir()):
        assert path.stat().st_mode & 0o077 == 0


async def test_the_log_is_not_folded_while_the_file_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 1)
    monkeypatch.setattr(opening, "LOG_BYTES_KEPT", 50_000)
    pause = Pause()
    with plugged(PartDisk(pause)):
        ledger = await opened(tmp_path)
        outcome = begin(ledger, "friday")
        await asyncio.to_thread(pause.reached.wait)
        before = (tmp_path / "events.db").read_bytes()
        for number in range(20):
            # Both go on meanwhile.
            await commit(ledger, Book("jazz", 1, f"b{number}"))
            assert (await result_of(ledger.read, [Show(f"b{number}")])).replies
        assert (tmp_path / "events.db").read_bytes() == before
        assert size_of(tmp_path / "events.db-wal") > 100_000
        pause.may_go_on.set()
        assert isinstance(await answer(outcome), BackupReply)
        assert await sold_in(tmp_path / "backups" / "friday.db") == 0
        await commit(ledger, Book("jazz", 1, "last"))
        assert (tmp_path / "events.db").read_bytes() != before
        # The room that the log took is free again.
        assert size_of(tmp_path / "events.db-wal") == 50_000
        await ledger.close()


# What is refused


def test_a_name_stays_in_the_folder_and_is_used_once(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    with running(tmp_path) as daemon, daemon.connect() as admin:
        for name in ("", "../x", "a/b", ".x", "-x", "a" * 65, "x\0", "x\n", "ä"):
            assert admin.ask(msgspec.json.encode({"cmd": "backup", "name": name}))["code"] == "bad_request"
        assert not (tmp_path / "backups").exists()
        for name in ("a", "a" * 64, "2027-03-11.db-seal", "a.part"):
            assert admin.ask(f"backup {name}")["reply"] == "backup"
            before = (tmp_path / "backups" / f"{name}.db").read_bytes()
            assert admin.ask("book 1 1")["reply"] == "booking"
            refused = admin.ask(f"backup {name}")
            assert (refused["code"], "which is whole" in refused["message"]) == ("backup_exists", True)
            assert (tmp_path / "backups" / f"{name}.db").read_bytes() == before


async def test_a_second_backup_waits_for_the_first_one(tmp_path: Path) -> None:
    pause = Pause()
    with plugged(PartDisk(pause)):
        ledger = await opened(tmp_path)
        first = begin(ledger, "first")
        await asyncio.to_thread(pause.reached.wait)
        answers = ledger.read([Backup("second")], Outcome())
        assert answers
        [refused] = answers.replies
        assert isinstance(refused, ErrorReply)
        assert (refused.code, refused.retry_after) == ("busy", 1.0)
        pause.may_go_on.set()
        assert isinstance(await answer(first), BackupReply)
        assert isinstance(await back_up(ledger, "second"), BackupReply)
        await ledger.close()


async def test_a_backup_is_given_up_when_the_log_grows_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOG_PAGES_MAX", 20)
    pause = Pause()
    with plugged(PartDisk(pause)):
        ledger = await opened(tmp_path)
        outcome = begin(ledger, "friday")
        await asyncio.to_thread(pause.reached.wait)
        for number in range(20):
            await commit(ledger, Book("jazz", 1, f"b{number}"))
        pause.may_go_on.set()
        refused = await answer(outcome)
        assert isinstance(refused, ErrorReply)
        assert (refused.code, in_backups(tmp_path)) == ("busy", [])
        assert "too much was sold meanwhile" in refused.message
        assert isinstance(await back_up(ledger, "friday"), BackupReply)
        await ledger.close()


async def test_a_backup_is_refused_if_it_would_leave_too_little_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await opened(tmp_path)
    needed = size_of(tmp_path / "events.db") + size_of(tmp_path / "events.db-wal")
    for free, code in ((2 * needed - 1, "storage_full"), (2 * needed, None)):
        file_system = SimpleNamespace(f_bavail=free, f_frsize=1)
        monkeypatch.setattr("os.statvfs", lambda _, file_system=file_system: file_system)
        reply = await back_up(ledger, "friday")
        assert getattr(reply, "code", None) == code
    await ledger.close()


async def test_postgresql_makes_its_own_backups(database: str) -> None:
    ledger = await PostgresLedger.open(database, COMMIT_SECONDS_MAX)
    answers: Answers = await result_of(ledger.read, [Backup("friday"), Show("x")])
    [refused] = answers.replies
    assert isinstance(refused, ErrorReply)
    assert (refused.code, "pg_dump -Fc" in refused.message) == ("backup_failed", True)
    await ledger.close()


# What fails


async def test_a_full_disk_leaves_nothing_and_the_sale_goes_on(tmp_path: Path) -> None:
    left = 0

    def fill(_name: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise apsw.FullError("no space left on the faulty disk")

    with plugged(PartDisk(fill)):
        ledger = await opened(tmp_path)
        await commit(ledger, *(Book("jazz", 50, f"b{number}") for number in range(30)))
        for room in range(1_000):
            left = room
            await commit(ledger, Book("jazz", 1, f"c{room}"))
            reply = await back_up(ledger, "friday")
            if isinstance(reply, BackupReply):
                break
            assert isinstance(reply, ErrorReply)
            assert (reply.code, in_backups(tmp_path)) == ("storage_full", [])
        assert room > 10
        await ledger.close()
    assert await faults_of(tmp_path / "backups" / "friday.db") == ["whole"]


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "backups").touch()
    ledger = await opened(tmp_path)
    reply = await back_up(ledger, "friday")
    assert isinstance(reply, ErrorReply)
    assert reply.code == "backup_failed"
    assert f"{tmp_path}/backups/friday.db cannot be written (File exists)" in reply.message
    await ledger.close()


async def test_a_damaged_page_does_not_get_into_a_backup(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    await commit(ledger, *(Book("jazz", 50, f"b{number}") for number in range(30)))
    await ledger.close()
    ledger = await opened(tmp_path)
    with (tmp_path / "events.db").open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"?")
    reply = await back_up(ledger, "friday")
    assert isinstance(reply, ErrorReply)
    assert (reply.code, in_backups(tmp_path)) == ("backup_failed", [])
    assert "a page has a wrong checksum" in reply.message
    await ledger.close()


async def test_what_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    for end in ("", "-log", "-wal", "-seal", "-journal"):
        (tmp_path / "backups" / f"events.db.part{end}").write_bytes(b"half of it")
    ledger = await opened(tmp_path)
    assert isinstance(await back_up(ledger, "friday"), BackupReply)
    assert in_backups(tmp_path) == ["friday.db", "friday.db-seal"]
    await ledger.close()


@pytest.mark.parametrize("is_broken", [False, True])
async def test_the_end_of_the_daemon_ends_a_backup_and_reports_no_damage(tmp_path: Path, is_broken: bool) -> None:
    pause = Pause()
    with plugged(PartDisk(pause)):
        ledger = await opened(tmp_path)
        outcome = begin(ledger, "friday")
        await asyncio.to_thread(pause.reached.wait)
        closing = asyncio.create_task(ledger.close())
        await asyncio.sleep(0)
        if is_broken:
            for file in (tmp_path / "backups").iterdir():
                file.unlink()
        pause.may_go_on.set()
        await closing
        refused = await answer(outcome)
        assert isinstance(refused, ErrorReply)
        assert (refused.code, in_backups(tmp_path)) == ("shutting_down", [])


# Putting one back


def test_a_backup_put_back_without_its_seal_is_noticed(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon, daemon.connect() as admin:
        assert admin.ask("book 1 1 --booking before")["reply"] == "booking"
        assert admin.ask("backup friday")["commits"] == 2
        assert admin.ask("book 1 1 --booking after")["reply"] == "booking"
        assert daemon.end() == 0
    (tmp_path / "events.db").write_bytes((tmp_path / "backups" / "friday.db").read_bytes())
    refused = ticketd("--port", "0", "--events", str(tmp_path / "events.json"))
    assert refused.returncode == 5
    assert "it lacks 1 of 3 commits that were acknowledged; if you put back a backup, " in refused.stderr
    with running(tmp_path, "--accept-losses") as daemon, daemon.connect() as connection:
        assert connection.ask("show before")["reply"] == "booking"
        assert connection.ask("show after")["code"] == "not_found"
        assert connection.ask("backup saturday")["commits"] == 2
