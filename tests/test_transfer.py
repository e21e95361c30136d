"""ticketctl export and import: everything that the ledger holds, and events from a file, once."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import (
    BREAK,
    SECONDS_MAX,
    SILENCE,
    answer,
    command_line,
    ctl,
    ended,
    environment,
    lying,
    nobody,
    terminal,
)
from tests.daemon import Daemon, running, write_events

MANY = 2_100
NAMES = ["Fête à Zürich – 東京 🎟️", 'Jazz "Night" d\'été', "-q"]


def rows(lines: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in lines.splitlines()]


def listed(daemon: Daemon) -> list[dict[str, Any]]:
    with daemon.connect() as connection:
        events: list[dict[str, Any]] = connection.ask("list")["events"]
        return events


def export(daemon: Daemon, what: str = "events") -> str:
    done = ctl("export", what, port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def saved(folder: Path, text: str | bytes) -> str:
    path = folder / "import"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def event_line(event_id: str, capacity: int = 5, **changed: object) -> str:
    facts = {"id": event_id, "name": "E", "date": "2027-03-11T20:00:00Z", "capacity": capacity, "available": capacity}
    return msgspec.json.encode({**facts, "held": 0, "sold": 0, "version": 0, **changed}).decode() + "\n"


def booking_line(booking: str, **changed: object) -> str:
    facts = {"id": booking, "event": "a", "quantity": 1, "state": "confirmed", "tickets": ["t"], "available": 4}
    return msgspec.json.encode({**facts, "version": 2, **changed}).decode() + "\n"


def ticket_line(ticket: str, state: str) -> str:
    return msgspec.json.encode({"id": ticket, "event": "a", "booking": "b", "state": state}).decode() + "\n"


def told(created: int, known: int, refused: str = "none") -> str:
    """Return what is told after an import of events only."""
    nothing = "0 known already, refused: none"
    events = f"events: {created} created, {known} known already, refused: {refused}"
    return f"{events}\nbookings: 0 restored, {nothing}\ntickets: 0 redeemed, {nothing}\n"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon without any event."""
    folder = tmp_path / "empty"
    folder.mkdir()
    with running(folder) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, list[dict[str, Any]]]]:
    """A daemon with more of everything than a page holds, and the replies to its bookings."""
    folder = tmp_path_factory.mktemp("full")
    write_events(folder, MANY)
    with running(folder) as daemon, daemon.connect() as connection:
        create = "".join(f"create E 2027-03-11T20:00:00Z 5 --id e{number}\n" for number in range(MANY))
        connection.send(create.encode() + b"book 1 1\n" * MANY)
        replies = [connection.read() for _ in range(2 * MANY)]
        yield daemon, replies[MANY:]


def test_events_are_exported_whole_across_pages(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, _ = full
    exported = rows(export(daemon))
    assert len(exported) == MANY + 1
    assert exported == listed(daemon)


def test_all_of_it_is_exported_with_events_first_then_bookings_then_tickets(
    full: tuple[Daemon, list[dict[str, Any]]],
) -> None:
    daemon, _ = full
    done = ctl("export", port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == export(daemon) + export(daemon, "bookings") + export(daemon, "tickets")


def test_bookings_are_exported_whole_across_pages(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, booked = full
    exported = rows(export(daemon, "bookings"))
    assert len(booked) == MANY
    assert [{"reply": "booking", **booking} for booking in exported] == sorted(booked, key=lambda reply: reply["id"])


def test_tickets_are_exported_whole_across_pages(full: tuple[Daemon, list[dict[str, Any]]]) -> None:
    daemon, booked = full
    tickets = {ticket: booking["id"] for booking in booked for ticket in booking["tickets"]}
    exported = rows(export(daemon, "tickets"))
    assert exported == [
        {"id": ticket, "event": "1", "booking": tickets[ticket], "state": "valid"} for ticket in sorted(tickets)
    ]


def test_what_became_of_bookings_and_tickets_is_exported(tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        expires = connection.ask("hold 1 2 --booking a")["expires"]
        first, second = connection.ask("book 1 2 --booking b")["tickets"]
        connection.ask(f"cancel b --tickets {first}")
        at = connection.ask(f"redeem {second}")["redeemed_at"]
        held, booking = rows(export(daemon, "bookings"))
        tickets = rows(export(daemon, "tickets"))
    assert (held["id"], held["state"], held["expires"], held["tickets"]) == ("a", "held", expires, [])
    assert (booking["id"], booking["state"], booking["cancelled"]) == ("b", "confirmed", [first])
    assert [(ticket["state"], ticket.get("redeemed_at")) for ticket in tickets] == [
        ("cancelled", None),
        ("redeemed", at),
    ]


def test_a_reader_that_has_seen_enough_of_an_export_gets_no_traceback(
    full: tuple[Daemon, list[dict[str, Any]]],
) -> None:
    daemon, _ = full
    exporting = subprocess.Popen(
        command_line(("export", "tickets"), daemon.port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert exporting.stdout
    assert exporting.stdout.readline().startswith(b'{"id":')
    exporting.stdout.close()
    _, errors = exporting.communicate(timeout=SECONDS_MAX)
    assert (exporting.returncode, errors) == (0, b"")


def test_an_exported_catalogue_imported_into_an_empty_daemon_gives_the_same_list(tmp_path: Path, empty: Daemon) -> None:
    write_events(tmp_path, 100, 200, 300, available=(100, 50, 0))
    with running(tmp_path) as source:
        for name in NAMES:
            assert ctl("create", "--", name, "2027-03-11T21:00:00+01:00", "7", port=source.port).returncode == 0
        exported = export(source)
        catalogue = listed(source)
    path = saved(tmp_path, exported)
    done = ctl("import", path, port=empty.port)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == told(6, 0)
    assert listed(empty) == catalogue
    assert export(empty) == exported

    again = ctl("import", path, port=empty.port)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == told(0, 6)
    assert listed(empty) == catalogue


def test_what_was_sold_and_held_there_is_not_on_sale_again_here(tmp_path: Path, empty: Daemon) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as source, source.connect() as connection:
        connection.ask("book 1 3")
        connection.ask("hold 1 2")
        exported = export(source)
    assert ctl("import", saved(tmp_path, exported), port=empty.port).returncode == 0
    (event,) = listed(empty)
    assert (event["capacity"], event["available"], event["held"], event["sold"]) == (10, 5, 0, 5)


def test_a_catalogue_file_is_imported_as_a_daemon_would_read_it(tmp_path: Path, empty: Daemon) -> None:
    write_events(tmp_path, 100, 200, available=(100, 50))
    path = str(tmp_path / "events.json")
    assert ctl("import", path, port=empty.port).stdout == told(2, 0)
    assert ctl("import", path, port=empty.port).stdout == told(0, 2)
    imported = listed(empty)
    with running(tmp_path) as daemon:
        assert listed(daemon) == imported


def test_importing_again_after_sales_takes_back_nothing(tmp_path: Path, empty: Daemon) -> None:
    path = saved(tmp_path, event_line("a"))
    ctl("import", path, port=empty.port)
    with empty.connect() as connection:
        connection.ask("book a 2")
    assert "1 known already" in ctl("import", path, port=empty.port).stdout
    assert [(event["available"], event["sold"]) for event in listed(empty)] == [(3, 2)]


def test_an_export_can_be_piped_into_an_import(full: tuple[Daemon, list[dict[str, Any]]], empty: Daemon) -> None:
    daemon, _ = full
    done = ctl("import", "/dev/stdin", port=empty.port, stdin=export(daemon))
    assert done.stdout == told(MANY + 1, 0)
    assert len(listed(empty)) == MANY + 1


def test_an_empty_export_imports_nothing(tmp_path: Path, empty: Daemon) -> None:
    assert export(empty) == ""
    done = ctl("import", saved(tmp_path, ""), port=empty.port)
    assert (done.returncode, done.stdout) == (0, told(0, 0))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (event_line("a") + event_line("b", version=-1), 2, "version must be"),
        (event_line("a") + booking_line("b", tickets=[]), 2, "tickets must be those"),
        (event_line("a") + booking_line("b", quantity=0), 2, "quantity must be"),
        (event_line("a") + booking_line("b", quantity=None), 2, "got `null`"),
        (event_line("a") + booking_line("b", changes=[["cancel", 3, 2, ["t"]]]), 2, "changes must be in the order"),
        (event_line("a") + ticket_line("t", "redeemed"), 2, "at must be"),
        (event_line("a") + ticket_line("t", "used"), 2, "used"),
        (event_line("a") + event_line("b", 0), 2, "capacity must be"),
        (event_line("a") + "\n" + event_line("b", name="a\x1bb"), 3, "U+001B"),
        (event_line("a") + '{"id":"b"}\n', 2, "missing required field `name`"),
        (event_line("a") + "{\n", 2, "truncated"),
        (event_line("a").encode() + b'{"id":"\xff"}\n', 2, "utf-8"),
        ('{"id":"a"}\n', 1, "missing required field `name`"),
        ('{"events":[\n{"ID":"a"}]}', 2, "missing required field `Name`"),
        ('{"events":[\n,]}', 2, "malformed"),
        ("id\tname\n", 1, "malformed"),
    ],
)
def test_a_broken_file_is_told_with_its_line_and_status_2_and_nothing_is_created(
    text: str | bytes, line: int, said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, text)
    with nobody() as port:
        done = ctl("import", path, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert f" {path}:{line}: " in done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "said"), [("missing", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_said_with_status_2(name: str, said: str, tmp_path: Path) -> None:
    with nobody() as port:
        done = ctl("import", str(tmp_path / name), port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot read {tmp_path / name} ({said}" in done.stderr


@pytest.mark.parametrize("words", [["export", "sales"], ["export", "events", "x"], ["import"]])
def test_wrong_usage_is_status_2_and_the_right_one_is_told(words: list[str]) -> None:
    with nobody() as port:
        done = ctl(*words, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"usage: {words[0]} " in done.stderr


def test_a_refused_event_is_told_with_status_1_and_the_others_are_created(tmp_path: Path, empty: Daemon) -> None:
    ctl("create", "Another", "2027-03-11T20:00:00Z", "5", "--id", "b", port=empty.port)
    path = saved(tmp_path, event_line("a") + event_line("b") + event_line("c"))
    done = ctl("import", path, port=empty.port)
    assert done.returncode == 1
    assert done.stderr.startswith("ticketctl: event_exists: event b ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == told(2, 0, "1 event_exists")
    assert [event["id"] for event in listed(empty)] == ["b", "a", "c"]


def test_the_summary_is_one_json_object_with_json(tmp_path: Path, empty: Daemon) -> None:
    done = ctl("import", saved(tmp_path, event_line("a") + event_line("a", 6)), "--json", port=empty.port)
    assert (done.returncode, done.stderr) == (1, "")
    refusal, summary = rows(done.stdout)
    assert (refusal["reply"], refusal["code"]) == ("error", "event_exists")
    assert summary == {
        "reply": "import",
        "events": {"done": 1, "known": 0, "refused": {"event_exists": 1}},
        "bookings": {"done": 0, "known": 0, "refused": {}},
        "tickets": {"done": 0, "known": 0, "refused": {}},
    }


@pytest.mark.parametrize("command", ["export", "import"])
def test_no_daemon_is_said_with_status_3(command: str, tmp_path: Path) -> None:
    what = "events" if command == "export" else saved(tmp_path, event_line("a"))
    with nobody() as port:
        done = ctl(command, what, port=port)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"ticketctl: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"


def test_an_event_without_a_reply_is_status_4_and_another_import_settles_it(tmp_path: Path) -> None:
    path = saved(tmp_path, event_line("a", available=3, sold=2))
    with lying(SILENCE) as liar:
        done = ctl("import", path, "--timeout", "0.5", port=liar.port)
    assert done.returncode == 4
    assert done.stderr.endswith(f"\n  ticketctl --port {liar.port} import {path}\n")


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_terminal_shows_how_far_an_import_is(tmp_path: Path, empty: Daemon) -> None:
    path = saved(tmp_path, "".join(event_line(f"e{number}") for number in range(20)))
    with terminal("import", path, port=empty.port) as screen:
        screen.expect(r"\d+%")
        status, shown = ended(screen)
    assert status == 0
    assert "events: 20 created" in shown


def created(event: str) -> bytes:
    return answer("event", **msgspec.json.decode(event_line(event)))


BUSY = answer("error", code="busy", message="too many are before you", retry_after=1)


@pytest.mark.parametrize("first", [(created("a"), BREAK), (created("a"), BUSY, created("c"))])
def test_what_got_no_reply_or_was_not_done_is_sent_again_and_nothing_else(
    first: tuple[bytes, ...], tmp_path: Path
) -> None:
    path = saved(tmp_path, event_line("a") + event_line("b") + event_line("c"))
    with lying(*first, created("b"), created("c")) as liar:
        done = ctl("import", path, port=liar.port)
        asked = [liar.asked()["id"] for _ in range(4)]
    assert (done.returncode, done.stdout, done.stderr) == (0, told(3, 0), "")
    assert asked == (["a", "b", "b", "c"] if BREAK in first else ["a", "b", "c", "b"])


def test_an_outcome_that_the_daemon_does_not_know_is_status_4_and_another_import_settles_it(tmp_path: Path) -> None:
    path = saved(tmp_path, event_line("a") + event_line("b"))
    with lying(created("a"), answer("error", code="outcome_unknown", message="it is unknown")) as liar:
        done = ctl("import", path, port=liar.port)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("ticketctl: it is unknown. ")
    assert done.stderr.endswith(f"\n  ticketctl --port {liar.port} import {path}\n")
