"""ticketctl export: a report of everything, whatever its size, as JSON lines or CSV."""

import csv
import io
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import (
    SECONDS_MAX,
    command_line,
    ctl,
    ended,
    environment,
    nobody,
    terminal,
)
from tests.daemon import Daemon, running, write_events

# More events and tickets than two pages hold, and more bookings than twenty.
MANY = 2_100
REPORTS = ("events", "bookings", "tickets")


# What a row does not have in JSON, and has in CSV.
UNSAID = {"paused": "false", "waiting": "0"}


def rows(lines: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in lines.splitlines()]


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def listed(daemon: Daemon) -> list[dict[str, Any]]:
    with daemon.connect() as connection:
        return connection.events()


def export(daemon: Daemon, *words: str) -> str:
    """Return the rows of a report that succeeds."""
    done = ctl("export", *words, "--quiet", port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def event_line(event_id: str, capacity: int = 5, **changed: object) -> str:
    """Return an event as it is exported."""
    facts = {"id": event_id, "name": "E", "date": "2027-03-11T20:00:00Z", "capacity": capacity, "available": capacity}
    return msgspec.json.encode({**facts, "held": 0, "sold": 0, "version": 0, **changed}).decode() + "\n"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, list[dict[str, Any]]]]:
    """A daemon with more of everything than a page holds, and the replies to its bookings."""
    folder = tmp_path_factory.mktemp("full")
    write_events(folder, MANY)
    with running(folder) as daemon, daemon.connect() as connection:
        create = "".join(f"create E 2027-03-11T20:00:00Z 5 --id e{number}\n" for number in range(MANY))
        connection.send(create.encode() + b"book 1 1\n" * (MANY - 2) + b"book e7 2\n" * 2)
        replies = [connection.read() for _ in range(2 * MANY)]
        yield daemon, replies[MANY:]


def test_events_are_exported_whole_across_pages(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, _ = full
    exported = rows(export(daemon, "events"))
    assert len(exported) == MANY + 1
    assert exported == listed(daemon)


def test_list_shows_all_events_as_one_reply(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, _ = full
    events = listed(daemon)
    [reply] = rows(ctl("list", "--json", port=daemon.port).stdout)
    assert reply == {"reply": "events", "events": events}
    assert ctl("list", port=daemon.port).stdout.count("\n") == len(events) == MANY + 1
    rest = rows(ctl("list", "--after", "e99", "--json", port=daemon.port).stdout)
    assert rest == [{"reply": "events", "events": events[101:]}]
    # With a limit, it is one page.
    [page] = rows(ctl("list", "--limit", "1", "--json", port=daemon.port).stdout)
    assert page == {"reply": "events", "events": events[:1], "more": True}
    with terminal("list", "--limit", "1", port=daemon.port) as screen:
        assert ended(screen)[1].endswith("\n(more after 1)\n")


def test_bookings_are_exported_whole_across_pages(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, replies = full
    exported = rows(export(daemon, "bookings"))
    assert len(replies) == MANY
    assert [{"reply": "booking", **booking} for booking in exported] == sorted(replies, key=lambda reply: reply["id"])


def test_tickets_are_exported_whole_across_pages(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, replies = full
    assert rows(export(daemon, "tickets")) == [
        {"id": ticket, "event": booking["event"], "booking": booking["id"], "state": "valid"}
        for booking in sorted(replies, key=lambda reply: reply["id"])
        for ticket in booking["tickets"]
    ]


@pytest.mark.parametrize(("what", "count"), [("events", "2,101"), ("bookings", "2,100"), ("tickets", "2,102")])
@pytest.mark.parametrize("options", [(), ("--csv",)])
def test_an_export_ends_with_its_count_on_stderr(
    full: tuple[Daemon, list[dict[str, Any]]], what: str, count: str, options: tuple[str, ...]
) -> None:
    daemon, _ = full
    done = ctl("export", what, *options, port=daemon.port)
    assert (done.returncode, done.stderr) == (0, f"ticketctl: {count} {what}\n")


@pytest.mark.parametrize("what", REPORTS)
def test_a_csv_has_the_rows_of_the_json_lines(full: tuple[Daemon, list[dict[str, Any]]], what: str) -> None:
    daemon, _ = full
    header, *lines = cells(export(daemon, what, "--csv"))
    expected = [
        [
            " ".join(value) if isinstance(value := row.get(name, UNSAID.get(name, "")), list) else str(value)
            for name in header
        ]
        for row in rows(export(daemon, what))
    ]
    assert lines == expected


def test_an_export_of_one_event_has_only_its_rows(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, replies = full
    assert [event["id"] for event in rows(export(daemon, "events", "--event", "e7"))] == ["e7"]
    bookings = sorted((reply for reply in replies if reply["event"] == "e7"), key=lambda reply: reply["id"])
    assert len(bookings) == 2
    assert [row["id"] for row in rows(export(daemon, "bookings", "--event=e7"))] == [reply["id"] for reply in bookings]
    header, *lines = cells(export(daemon, "tickets", "--csv", "--event", "e7"))
    assert [line[header.index("id")] for line in lines] == [ticket for reply in bookings for ticket in reply["tickets"]]


def test_an_export_of_one_event_has_it_as_list_shows_it(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, _ = full
    done = ctl("export", "events", "--event", "e7", port=daemon.port)
    assert done.stderr == "ticketctl: 1 event\n"
    assert rows(done.stdout) == [event for event in listed(daemon) if event["id"] == "e7"]


@pytest.mark.parametrize("what", REPORTS)
@pytest.mark.parametrize("options", [(), ("--csv",)])
def test_an_export_of_an_unknown_event_fails_as_show_does(
    full: tuple[Daemon, list[dict[str, Any]]], what: str, options: tuple[str, ...]
) -> None:
    daemon, _ = full
    done = ctl("export", what, "--event", "nope", *options, port=daemon.port)
    shown = ctl("show", "nope", "--kind", "event", port=daemon.port)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", shown.stderr)


def test_an_export_takes_no_booking_for_an_event(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, replies = full
    done = ctl("export", "tickets", "--event", replies[0]["id"], port=daemon.port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ticketctl: event_not_found: there is no event {replies[0]['id']}")


@pytest.mark.parametrize("options", [(), ("--csv",)])
def test_closing_the_pipe_of_an_export_is_silent(
    full: tuple[Daemon, list[dict[str, Any]]], options: tuple[str, ...]
) -> None:
    daemon, _ = full
    exporting = subprocess.Popen(
        command_line(("export", "tickets", *options), daemon.port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert exporting.stdout
    assert exporting.stdout.readline()
    exporting.stdout.close()
    _, errors = exporting.communicate(timeout=SECONDS_MAX)
    assert (exporting.returncode, errors) == (0, b"")


def test_an_export_to_a_full_disk_says_so(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, _ = full
    with Path("/dev/full").open("w") as disk:
        done = subprocess.run(
            command_line(("export", "tickets"), daemon.port),
            stdout=disk,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=SECONDS_MAX,
        )
    assert (done.returncode, done.stderr) == (1, b"ticketctl: cannot write the output: No space left on device\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "export needs what"),
        (["sales"], 'what must be one of events, bookings, tickets, not "sales"'),
        (["events", "x"], '"x" is one word too many'),
        (["events", "--event"], "--event needs a value"),
        (["events", "--event", "a/b"], "event must be 1 to 64 of"),
        (["events", "--after", "1"], 'export has no option "--after"'),
        (["events", "--csv=yes"], "--csv takes no value"),
        (["events", "--csv", "--json"], "--csv and --json exclude each other"),
    ],
)
def test_wrong_usage_of_export_exits_with_status_2(words: list[str], said: str) -> None:
    with nobody() as port:
        done = ctl("export", *words, port=port)
    assert done.returncode == 2
    message = done.stdout + done.stderr
    assert said in message.replace('\\"', '"')
    assert "usage: export events|bookings|tickets [--event ID] [--csv]" in message
    assert message.count("\n") == 1
