"""What is promised about events.json while a daemon runs, and what it may be instead of a file."""

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.daemon import Daemon, running, until, write_events
from tests.faults.daemon import Machine
from tests.ledgers import EmbeddedStorage, transact
from tests.serving.conftest import until as until_true
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.commits.events_file import FILE_BYTES_MAX, EventsFile
from ticketd.commits.file_sync import FileSync
from ticketd.config import STATUS_EVENTS_FILE, STATUS_LEDGER_FAILED, Limits
from ticketd.disk_thread import DiskThread
from ticketd.model import Event
from ticketd.rules.working_set import Adopt
from ticketd.wire.requests import Create

# What is in NFC by the Unicode tables of one Python, and is not by those of the next, stands here as what never is.
NOT_NFC = "Cafe\u0301"
DATE = datetime(2027, 3, 11, 20, tzinfo=UTC)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)


def file_event(event: str, name: str = "Jazz") -> dict[str, Any]:
    return {"ID": event, "Name": name, "Date": "2027-03-11T20:00:00Z", "TotalTickets": 9, "AvailableTickets": 9}


def replace(path: Path, *events: dict[str, Any]) -> None:
    """Write a catalogue at once, so that nobody reads half of it."""
    new = path.with_name("new")
    new.write_bytes(msgspec.json.encode({"events": events}))
    new.replace(path)


@pytest.mark.parametrize(
    ("arrange", "says"),
    [(fifo, "not a regular file"), (device, "not a regular file"), (too_large, "larger than 64 MiB")],
)
def test_a_start_with_what_is_no_catalogue_is_refused(
    tmp_path: Path, arrange: Callable[[Path], None], says: str
) -> None:
    arrange(tmp_path / "events.json")
    daemon = Daemon("--port", "0", "--events", str(tmp_path / "events.json"))
    try:
        assert daemon.wait() == STATUS_EVENTS_FILE
        assert daemon.lines[-1].startswith("ticketd: cannot read ")
        assert says in daemon.lines[-1]
        assert not (tmp_path / "events.db").exists()
    finally:
        daemon.kill()


def test_what_takes_the_place_of_the_file_stops_no_sale(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    file = tmp_path / "events.json"
    with running(tmp_path) as daemon, daemon.connect() as connection:
        for arrange, says in ((fifo, r"\(it is not a regular file\); no events"), (too_large, "larger than 64 MiB")):
            file.unlink()
            arrange(file)
            daemon.wait_line(says)
            assert connection.ask("book 1 1")["reply"] == "booking"
        file.unlink()
        replace(file, file_event("2"))
        until(lambda: connection.ask("show 2")["reply"] == "event")
        until(lambda: len(msgspec.json.decode(file.read_bytes())["events"]) == 2)
        assert daemon.end() == 0


def test_a_large_file_is_adopted_by_several_commits(tmp_path: Path) -> None:
    write_events(tmp_path)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        replace(tmp_path / "events.json", *(file_event(f"e{number}") for number in range(1_200)))
        daemon.wait_line("adopted events=1200")
        assert connection.ask("stats")["commits"] == 3


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_an_adoption_that_is_cut_short_is_finished_later(tmp_path: Path, ending: signal.Signals) -> None:
    write_events(tmp_path)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        replace(tmp_path / "events.json", *(file_event(f"e{number}") for number in range(5_000)))
        until(lambda: connection.ask("show e0")["reply"] == "event")
        daemon.end(ending)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        assert connection.ask("stats")["events"] == 5_000


def test_a_hanging_sync_of_the_file_does_not_hold_the_end(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    write_events(tmp_path, 5)
    limits = ("--drain-seconds-max", "1")
    with running(tmp_path, *limits, module=machine.module, env=machine.env) as daemon, daemon.connect() as connection:
        with machine.file_syncs_stall():
            assert connection.ask("book 1 2 --booking mine")["available"] == 3
            until(machine.file_stalled)
            assert connection.ask("ping") == {"reply": "pong"}
            assert daemon.end() == 0
        daemon.wait_line("could not be brought up to date in time")
    with running(tmp_path) as daemon, daemon.connect() as connection:
        assert connection.ask("book 1 2 --booking mine")["replayed"]
        assert daemon.end() == 0
    assert msgspec.json.decode((tmp_path / "events.json").read_bytes())["events"][0]["AvailableTickets"] == 3


def test_a_hanging_ledger_does_not_hold_the_end(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    write_events(tmp_path, 5)
    limits = ("--drain-seconds-max", "1")
    with running(tmp_path, *limits, module=machine.module, env=machine.env) as daemon, daemon.connect() as connection:
        with machine.syncs_stall():
            connection.send(b"book 1 2 --booking mine\n")
            until(machine.stalled)
            assert daemon.end() == STATUS_LEDGER_FAILED
        daemon.wait_line("CRITICAL the ledger did not answer in time")
    with running(tmp_path) as daemon, daemon.connect() as connection:
        assert connection.ask("book 1 2 --booking mine")["version"] == 1


def _shows(file: Path, available: int) -> bool:
    return file.exists() and f'"AvailableTickets": {available}'.encode() in file.read_bytes()


def test_a_name_of_the_ledger_is_served_and_written_as_it_is(tmp_path: Path) -> None:
    # As another Python sold it.
    async def sell() -> None:
        ledger = await EmbeddedStorage(tmp_path).open()
        await transact(ledger, [Adopt(Event("old", NOT_NFC, DATE, 9, 9, 0, 0, 0, 0))])
        await ledger.close()

    asyncio.run(sell())
    file = tmp_path / "events.json"
    for left in (8, 7):
        with running(tmp_path) as daemon, daemon.connect() as connection:
            assert connection.ask("book old 1")["available"] == left
            assert connection.ask("show old")["name"] == NOT_NFC
            until(partial(_shows, file, left))
            assert daemon.end() == 0
        assert msgspec.json.decode(file.read_bytes())["events"][0]["Name"] == NOT_NFC


def test_a_new_name_that_is_not_nfc_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "events.json"
    write_events(tmp_path, 5)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        replace(file, file_event("new", NOT_NFC))
        content = file.read_bytes()
        assert "the event new: name must be in Unicode NFC" in daemon.wait_line("it is not written: correct it")
        assert connection.ask("book 1 1")["reply"] == "booking"
        assert daemon.end() == 0
    assert file.read_bytes() == content
    daemon = Daemon("--port", "0", "--events", str(file))
    assert daemon.wait() == STATUS_EVENTS_FILE
    assert "the event new: name must be in Unicode NFC" in daemon.lines[-1]


async def test_a_removed_event_leaves_the_file_and_stays_away(tmp_path: Path) -> None:
    ledger = await EmbeddedStorage(tmp_path).open()
    catalogue = Catalogue([])
    committer = Committer(ledger, catalogue, Limits())
    file = tmp_path / "events.json"
    sync = FileSync(EventsFile(file), DiskThread("test"), catalogue, committer)

    def in_file() -> list[str]:
        return [event["ID"] for event in msgspec.json.decode(file.read_bytes())["events"]] if file.exists() else []

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(committer.run())
        await committer.ask([Create(name, DATE, 9, name) for name in ("jazz", "rock")], "test")
        tasks.create_task(sync.run())
        await until_true(lambda: in_file() == ["jazz", "rock"])
        catalogue.remove(["jazz"])
        await until_true(lambda: in_file() == ["rock"])
        sync.close()
        committer.close()
    assert [event.id for event in catalogue.events()] == ["rock"]
    await ledger.close()
