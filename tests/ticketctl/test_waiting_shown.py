"""Waiting lists in what ticketctl shows: events with a line, bookings in it, and reports of them."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import ctl, ended, terminal
from tests.daemon import Daemon, running, write_events
from tests.screens import Screen

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

LONG = "A very long name of a concert in the park"


def ask(daemon: Daemon, line: str) -> dict[str, Any]:
    with daemon.connect() as connection:
        return connection.ask(line)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with an event that is waited for, and another one."""
    folder = tmp_path_factory.mktemp("waited")
    write_events(folder, 2, 200)
    with running(folder) as daemon:
        ask(daemon, f"amend 1 --name '{LONG}' --closes 2037-03-01T20:00:00Z --per-buyer 9")
        ask(daemon, "hold 1 2 --booking held --buyer ann")
        for name in ("first", "second", "third"):
            assert ask(daemon, f"wait 1 1 --booking {name} --buyer ben")["state"] == "waiting"
        yield daemon


@pytest.mark.parametrize("columns", [200, 120, 80, 60, 40])
@pytest.mark.parametrize("command", [["list"], ["show", "1"]])
def test_an_event_shows_how_many_wait_for_it(daemon: Daemon, command: list[str], columns: int) -> None:
    with terminal(*command, port=daemon.port, size=(20, columns)) as screen:
        status, shown = ended(screen)
    assert status == 0
    if command == ["list"] or columns == 200:
        head, line, *_ = shown.splitlines()
        assert max(map(len, shown.splitlines())) <= columns
        end = head.index("WAITING") + len("WAITING")
        assert line[:end].split()[-1] == "3"
    else:
        assert re.search(r"\n  3 waiting, closes |^waiting +3\r?$", shown, re.MULTILINE)


def test_where_nobody_waits_nothing_is_shown_of_it(daemon: Daemon) -> None:
    with terminal("show", "2", port=daemon.port) as screen:
        assert "WAITING" not in ended(screen)[1]
    assert ctl("show", "2", port=daemon.port).stdout.split("\t")[-1] == "0\n"
    assert ctl("show", "1", port=daemon.port).stdout.split("\t")[-1] == "3\n"


@pytest.mark.parametrize("columns", [80, 60])
def test_the_live_table_shows_how_many_wait(daemon: Daemon, columns: int) -> None:
    size = (20, columns)
    with terminal("watch", port=daemon.port, size=size) as child:
        screen = Screen(child, size)
        head, line, other = screen.until(lambda lines: len(lines) == 3)
    assert max(map(len, (head, line, other))) <= columns
    end = head.index("WAITING") + len("WAITING")
    assert line[:end].split()[-1] == "3"
    with terminal("watch", "1", port=daemon.port, env={"TERM": "dumb"}) as child:
        child.expect_exact(f"2 held, 0 sold, 3 waiting ({LONG})")


def test_show_tells_the_place_of_a_booking_that_waits(daemon: Daemon) -> None:
    with terminal("show", "second", port=daemon.port) as screen:
        _, shown = ended(screen)
    assert shown.startswith("booking second: 1 ticket of event 1 for ben, waiting, number 2 in line\n")
    assert ctl("show", "second", port=daemon.port).stdout.rstrip("\n").split("\t")[-1] == "2"


def test_what_became_of_waiting_is_told(tmp_path: Path) -> None:
    write_events(tmp_path, 1)
    with running(tmp_path) as daemon:
        ask(daemon, "hold 1 1 --booking h")
        for name in "ab":
            ask(daemon, f"wait 1 1 --booking {name}")
        ask(daemon, "release a")
        ask(daemon, "release h")
        for name, told in (("a", "left the line at "), ("b", "offered at ")):
            with terminal("show", name, port=daemon.port) as screen:
                _, shown = ended(screen)
            assert re.search(rf"\n  {told}[^\n]*\d\d UTC", shown)
        assert re.search(r"offered at [\d: -]+ UTC, until [\d: -]+ UTC", shown)


def test_bookings_and_exports_have_those_that_wait(daemon: Daemon, tmp_path: Path) -> None:
    listed = ctl("bookings", "--buyer", "ben", port=daemon.port)
    assert [line.split("\t")[3] for line in listed.stdout.splitlines()] == ["waiting"] * 3
    with terminal("bookings", port=daemon.port) as screen:
        assert ended(screen)[1].count("  waiting  ") == 3
    rows = [msgspec.json.decode(row) for row in ctl("export", "bookings", port=daemon.port).stdout.splitlines()]
    assert {row["id"]: row["state"] for row in rows} == {
        **dict.fromkeys(["first", "second", "third"], "waiting"),
        "held": "held",
    }
    assert len(list(csv.reader(io.StringIO(ctl("export", "bookings", "--csv", port=daemon.port).stdout)))) == 5
    assert ctl("export", "tickets", port=daemon.port).stdout == ""
    # An event that is waited for can be imported elsewhere. Those who wait stay here.
    events = ctl("export", "events", "--event", "1", port=daemon.port).stdout
    assert msgspec.json.decode(events)["waiting"] == 3
    with running(tmp_path) as other:
        done = ctl("import", "-", port=other.port, stdin=events)
        assert (done.returncode, done.stdout) == (0, "events: 1 created, 0 known already, refused: none\n")
        assert "waiting" not in ask(other, "show 1")


def test_a_report_counts_an_offer_as_held_and_those_who_wait_not_at_all(tmp_path: Path) -> None:
    write_events(tmp_path, 3)
    with running(tmp_path) as daemon:
        ask(daemon, "hold 1 3 --booking h")
        for name, tickets in (("bought", 2), ("left", 1), ("waits", 3)):
            ask(daemon, f"wait 1 {tickets} --booking {name}")
        ask(daemon, "release left")
        ask(daemon, "release h")
        assert ask(daemon, "confirm bought")["state"] == "confirmed"
        report = msgspec.json.decode(ctl("--json", "report", "1", port=daemon.port).stdout)
    assert {name: report[name] for name in ("sold", "held", "cancelled")} == {"sold": 2, "held": 5, "cancelled": 0}


def test_auto_counts_only_tickets_that_somebody_has(tmp_path: Path) -> None:
    write_events(tmp_path, 3)
    with running(tmp_path) as daemon:
        done = ctl("--json", "auto", "wait", "1", "2", "4", "0", port=daemon.port)
        summary = msgspec.json.decode(done.stdout)
        assert (summary["done"], summary["tickets"]) == (4, 2)
        assert ask(daemon, "show 1")["waiting"] == 3
