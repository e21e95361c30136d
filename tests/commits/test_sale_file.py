"""The sale in events.json: Opens and Closes are read and written, and a deleted event stays away. On both ledgers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.daemon import Daemon, running, until, write_events
from tests.faults.daemon import Machine
from tests.ledgers import STORAGES

DATE = "2027-03-11T20:00:00Z"
OPENS, CLOSES = "2101-01-01T10:00:00Z", "2101-02-01T10:00:00Z"

Run = Callable[..., AbstractContextManager[Daemon]]


@pytest.fixture(params=STORAGES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """Run a daemon on events.json, and always the same ledger, of each kind."""
    ledger = ["--ledger", request.getfixturevalue("database")] if request.param == "postgres" else []
    yield partial(running, tmp_path, *ledger)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_events(tmp_path)
    return tmp_path / "events.json"


def file_event(event: str, **more: object) -> dict[str, Any]:
    return {"ID": event, "Name": "Jazz", "Date": DATE, "TotalTickets": 9, "AvailableTickets": 9, **more}


def replace(file: Path, *events: dict[str, Any]) -> None:
    """Write a catalogue at once, so that nobody reads half of it."""
    new = file.with_name("new")
    new.write_bytes(msgspec.json.encode({"events": events}))
    new.replace(file)


def written(file: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = msgspec.json.decode(file.read_bytes())["events"]
    return events


def test_opens_and_closes_are_read_from_the_file_and_written_to_it(run: Run, file: Path) -> None:
    replace(file, file_event("both", Opens="2101-01-01T11:00:00+01:00", Closes=CLOSES), file_event("none"))
    with run() as daemon, daemon.connect() as connection:
        shown = connection.ask("show both")
        assert (shown["opens"], shown["closes"]) == (OPENS, CLOSES)
        assert connection.ask("book both 1")["code"] == "not_on_sale"
        assert connection.ask("book none 1")["state"] == "confirmed"
        until(lambda: written(file)[1]["AvailableTickets"] == 8)
        assert written(file) == [
            file_event("both", Opens=OPENS, Closes=CLOSES),
            file_event("none", AvailableTickets=8),
        ]
        connection.ask(f"amend both --opens none --closes {OPENS}")
        until(lambda: written(file)[0] == file_event("both", Closes=OPENS))


@pytest.mark.parametrize("edit", [{"Opens": OPENS}, {"Closes": "2102-01-01T00:00:00Z"}, {}])
def test_an_edit_of_the_sale_of_a_known_event_is_undone(run: Run, file: Path, edit: dict[str, str]) -> None:
    known = file_event("known", Closes=CLOSES)
    replace(file, known)
    with run() as daemon, daemon.connect() as connection:
        connection.ask("amend known --paused --per-buyer 3")
        before = connection.ask("show known")
        replace(file, file_event("known", **edit))
        daemon.wait_line("ignored edits of known events=known in ")
        until(lambda: written(file) == [known])
        assert connection.ask("show known") == before
    # What the file does not say of a sale is no edit.
    with run() as daemon, daemon.connect() as connection:
        assert connection.ask("show known") == before
        assert not [line for line in daemon.lines if "ignored edits" in line]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"Opens": CLOSES, "Closes": OPENS}, "Closes must be later than Opens"),
        ({"Opens": "2101-01-01T10:00:00"}, "Opens"),
        ({"Paused": True}, "Paused"),
    ],
)
def test_a_sale_in_the_file_that_cannot_be_is_refused(run: Run, file: Path, fields: dict[str, Any], says: str) -> None:
    with run() as daemon, daemon.connect() as connection:
        replace(file, file_event("new", **fields))
        content = file.read_bytes()
        assert says in daemon.wait_line("no events are adopted from it, and it is not written: correct it")
        assert connection.ask("create Jazz 2027-03-11T20:00:00Z 5 --id other")["reply"] == "event"
        assert connection.ask("show new")["code"] == "not_found"
        assert file.read_bytes() == content


def test_a_deleted_event_leaves_the_file(run: Run, file: Path) -> None:
    replace(file, file_event("wrong"), file_event("right"))
    with run() as daemon, daemon.connect() as connection:
        assert connection.ask("delete wrong")["reply"] == "event"
        until(lambda: written(file) == [file_event("right")])
        # Somebody writes the file that was open in an editor: it leaves again.
        replace(file, file_event("wrong"), file_event("right"), file_event("new"))
        until(lambda: written(file) == [file_event("right"), file_event("new")])
        assert [event["id"] for event in connection.events()] == ["right", "new"]
        assert connection.ask("show wrong")["code"] == "not_found"
        assert connection.ask(f"create Jazz {DATE} 9 --id wrong")["version"] == 0
        until(lambda: written(file) == [file_event("right"), file_event("new"), file_event("wrong")])


def test_the_log_says_that_an_event_of_the_file_was_deleted(run: Run, file: Path) -> None:
    replace(file, file_event("wrong"), file_event("right"))
    with run() as daemon, daemon.connect() as connection:
        connection.ask("delete wrong")
        until(lambda: written(file) == [file_event("right")])
        adopted = len([line for line in daemon.lines if "adopted events=" in line])
        replace(file, file_event("wrong"), file_event("right"))
        daemon.wait_line("WARNING ignored deleted events=wrong in ")
        until(lambda: written(file) == [file_event("right")])
        assert len([line for line in daemon.lines if "adopted events=" in line]) == adopted


def test_after_kill_9_a_deleted_event_does_not_come_back(run: Run, file: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    replace(file, file_event("wrong"), file_event("right"))
    with run(module=machine.module, env=machine.env) as daemon, daemon.connect() as connection:
        with machine.file_syncs_stall():
            assert connection.ask("delete wrong")["reply"] == "event"
            until(machine.file_stalled)
            daemon.kill()
        assert written(file) == [file_event("wrong"), file_event("right")]
    with run() as daemon, daemon.connect() as connection:
        assert [event["id"] for event in connection.events()] == ["right"]
        until(lambda: written(file) == [file_event("right")])
