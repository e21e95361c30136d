"""ticketctl export: a report of everything, whatever its size, as JSON lines or CSV."""

import csv
import io
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import (
    BREAK,
    SECONDS_MAX,
    answer,
    booked,
    command_line,
    ctl,
    ended,
    environment,
    lying,
    nobody,
    terminal,
)
from tests.daemon import Connection, Daemon, running, write_events
from tests.ticketctl.test_render import ESCAPED, EVIL, FACTS, STEERING
from ticketd.wire.requests import BOOKINGS_PER_PAGE_MAX

OPENED = "2026-01-01T09:00:00Z"
# More events and tickets than two pages hold, and more bookings than twenty.
MANY = 2_100
REPORTS = ("events", "bookings", "tickets")
# What a row does not have in JSON, and has in CSV.
UNSAID = {"paused": "false"}


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


def page(size: int, first: int = 0, *, more: bool = False) -> bytes:
    """Return the reply to ``bookings`` with so many of them."""
    bookings = [msgspec.json.decode(booked(f"b{number:04}")) for number in range(first, first + size)]
    return answer("bookings", bookings=bookings, more=more)


FULL_PAGE = page(BOOKINGS_PER_PAGE_MAX, more=True)


@contextmanager
def small(folder: Path) -> Iterator[tuple[Daemon, Connection]]:
    """A daemon with an event of 10 tickets, and a connection to it."""
    write_events(folder, 10)
    with running(folder) as daemon, daemon.connect() as connection:
        yield daemon, connection


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


@pytest.mark.parametrize("command", [["list"], ["export", "events"]])
def test_events_are_not_read_in_circles(command: list[str]) -> None:
    first = answer("events", events=[{"id": "1", "name": "E", **FACTS}], more=True)
    with lying(first, answer("events", events=[], more=True)) as liar:
        done = ctl(*command, port=liar.port)
        assert [liar.asked().get("after") for _ in range(2)] == [None, "1"]
        assert not liar.asked_more()
    assert done.returncode == 3
    assert "a page with nothing new" in done.stderr


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


def test_export_shows_what_became_of_bookings_and_tickets(tmp_path: Path) -> None:
    with small(tmp_path) as (daemon, connection):
        connection.ask(f"amend 1 --opens {OPENED} --per-buyer 4")
        expires = connection.ask("hold 1 2 --booking a --buyer 'Anna, Zürich'")["expires"]
        first, second = connection.ask("book 1 2 --booking b --buyer b@example.org")["tickets"]
        connection.ask(f"cancel b --tickets {first}")
        at = connection.ask(f"redeem {second}")["redeemed_at"]
        held, booking = rows(export(daemon, "bookings"))
        tickets = rows(export(daemon, "tickets"))
        in_csv = [cells(export(daemon, what, "--csv")) for what in REPORTS]
    assert (held["id"], held["state"], held["expires"], held["tickets"]) == ("a", "held", expires, [])
    assert (booking["id"], booking["state"], booking["cancelled"]) == ("b", "confirmed", [first])
    assert (booking["redeemed"], booking["redeemed_at"]) == ([second], [at])
    assert [(ticket["state"], ticket.get("redeemed_at")) for ticket in tickets] == [
        ("cancelled", None),
        ("redeemed", at),
    ]
    events_csv, bookings_csv, tickets_csv = in_csv
    assert events_csv == [
        [
            *("id", "name", "date", "capacity", "available", "held", "sold", "version"),
            *("opens", "closes", "paused", "per_buyer"),
        ],
        ["1", "Event 1", "2027-03-01T20:00:00Z", "10", "7", "2", "1", "4", OPENED, "", "false", "4"],
    ]
    assert bookings_csv == [
        [
            *("id", "event", "quantity", "state", "tickets", "available", "version"),
            *("expires", "cancelled", "redeemed", "redeemed_at"),
            *("booked_at", "buyer", "changes"),
        ],
        ["a", "1", "2", "held", "", "8", "2", expires, "", "", "", held["booked_at"], "Anna, Zürich", ""],
        [
            *("b", "1", "2", "confirmed", f"{first} {second}", "7", "4"),
            *(
                "",
                first,
                second,
                at,
                booking["booked_at"],
                "b@example.org",
                msgspec.json.encode(booking["changes"]).decode(),
            ),
        ],
    ]
    assert [change["what"] for change in booking["changes"]] == ["cancel"]
    assert tickets_csv == [
        ["id", "event", "booking", "state", "redeemed_at", "buyer"],
        [first, "1", "b", "cancelled", "", "b@example.org"],
        [second, "1", "b", "redeemed", at, "b@example.org"],
    ]


def test_a_csv_quotes_names_and_ends_lines_with_cr_lf(tmp_path: Path) -> None:
    name = 'Fête 東京, "late" d\'été'
    with small(tmp_path) as (daemon, connection):
        connection.ask(msgspec.json.encode({"cmd": "amend", "event": "1", "name": name}))
        done = export(daemon, "events", "--csv")
    header, line, rest = done.split("\r\n")
    assert header == "id,name,date,capacity,available,held,sold,version,opens,closes,paused,per_buyer"
    assert line == '1,"Fête 東京, ""late"" d\'été",2027-03-01T20:00:00Z,10,10,0,0,1,,,false,'
    assert rest == ""


def test_an_empty_report_has_only_the_header_of_its_csv(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        plain = ctl("export", "bookings", port=daemon.port)
        as_csv = ctl("export", "bookings", "--csv", port=daemon.port)
    assert (plain.returncode, plain.stdout, plain.stderr) == (0, "", "ticketctl: 0 bookings\n")
    assert (as_csv.returncode, as_csv.stderr) == (0, "ticketctl: 0 bookings\n")
    assert len(cells(as_csv.stdout)) == 1


def test_an_export_asks_for_one_page_after_the_other() -> None:
    with lying(FULL_PAGE, page(0)) as liar:
        done = ctl("export", "bookings", port=liar.port)
        first, second = liar.asked(), liar.asked()
        assert not liar.asked_more()
    assert (done.returncode, done.stderr) == (0, f"ticketctl: {BOOKINGS_PER_PAGE_MAX} bookings\n")
    assert first == {"cmd": "bookings", "limit": BOOKINGS_PER_PAGE_MAX}
    assert second == {**first, "after": f"b{BOOKINGS_PER_PAGE_MAX - 1:04}"}


def test_an_export_of_one_event_asks_only_for_its_bookings() -> None:
    shown = answer("event", id="e7", name="E", **FACTS)
    pages = (answer("bookings", bookings=[], more=True, last="b5"), page(2, 10))
    with lying(shown, *pages) as liar:
        done = ctl("export", "bookings", "--event", "e7", port=liar.port)
        asked = [liar.asked() for _ in range(3)][1:]
    assert (done.returncode, done.stderr) == (0, "ticketctl: 2 bookings\n")
    assert [(each["event"], each.get("after")) for each in asked] == [("e7", None), ("e7", "b5")]


def test_an_export_goes_on_after_a_page_that_ends_early() -> None:
    with lying(page(2, more=True), page(1, 2, more=True), page(1, 3)) as liar:
        done = ctl("export", "tickets", port=liar.port)
        asked = [liar.asked().get("after") for _ in range(3)]
        assert not liar.asked_more()
    assert asked == [None, "b0001", "b0002"]
    assert [row["booking"] for row in rows(done.stdout)] == ["b0000", "b0001", "b0002", "b0003"]
    assert done.stderr == "ticketctl: 4 tickets\n"


def test_an_export_ends_at_a_full_page_without_more() -> None:
    with lying(page(BOOKINGS_PER_PAGE_MAX)) as liar:
        done = ctl("export", "bookings", port=liar.port)
    assert (done.returncode, done.stderr) == (0, f"ticketctl: {BOOKINGS_PER_PAGE_MAX} bookings\n")


def test_an_export_is_not_led_in_circles_by_an_empty_page() -> None:
    with lying(FULL_PAGE, page(0, more=True)) as liar:
        done = ctl("export", "bookings", port=liar.port)
    assert done.returncode == 3
    assert done.stderr.endswith(f"The output is incomplete: it ends after {BOOKINGS_PER_PAGE_MAX} bookings\n")


def test_tickets_of_large_bookings_are_exported_whole(tmp_path: Path) -> None:
    write_events(tmp_path, 3_000)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        tickets = [ticket for name in "abcd" for ticket in connection.ask(f"book 1 600 --booking {name}")["tickets"]]
        assert len(connection.ask("bookings")["bookings"]) < 4
        assert [row["id"] for row in rows(export(daemon, "tickets"))] == tickets


def test_an_export_goes_on_when_its_connection_breaks_once() -> None:
    with lying(FULL_PAGE, BREAK, page(3, BOOKINGS_PER_PAGE_MAX)) as liar:
        done = ctl("export", "bookings", port=liar.port)
    assert (done.returncode, done.stderr) == (0, f"ticketctl: {BOOKINGS_PER_PAGE_MAX + 3} bookings\n")
    assert [row["id"] for row in rows(done.stdout)] == [f"b{number:04}" for number in range(BOOKINGS_PER_PAGE_MAX + 3)]


@pytest.mark.parametrize("options", [(), ("--csv",), ("--quiet",)])
def test_an_export_that_breaks_off_says_after_how_many_rows(options: tuple[str, ...]) -> None:
    with lying(FULL_PAGE, BREAK, BREAK) as liar:
        done = ctl("export", "bookings", *options, port=liar.port)
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == BOOKINGS_PER_PAGE_MAX + ("--csv" in options)
    assert done.stderr == (
        f"ticketctl: 127.0.0.1:{liar.port} closed the connection without a reply."
        f" The output is incomplete: it ends after {BOOKINGS_PER_PAGE_MAX} bookings\n"
    )


def test_an_export_that_is_refused_midway_is_incomplete_too() -> None:
    with lying(FULL_PAGE, answer("error", code="busy", message="full", retry_after=1)) as liar:
        done = ctl("export", "bookings", port=liar.port)
    assert done.returncode == 5
    assert done.stderr == (
        f"ticketctl: busy: full. The output is incomplete: it ends after {BOOKINGS_PER_PAGE_MAX} bookings"
        " (again after 1 s)\n"
    )


def test_json_puts_the_error_of_an_export_after_its_rows() -> None:
    with lying(FULL_PAGE, BREAK, BREAK) as liar:
        done = ctl("--json", "export", "bookings", port=liar.port)
    *exported, error = rows(done.stdout)
    assert (done.returncode, done.stderr, len(exported)) == (3, "", BOOKINGS_PER_PAGE_MAX)
    assert (error["reply"], error["code"]) == ("error", "cannot_connect")
    assert error["message"].endswith(f"it ends after {BOOKINGS_PER_PAGE_MAX} bookings")


@pytest.mark.parametrize("options", [(), ("--csv",), ("--event", "1")])
def test_an_export_without_a_daemon_writes_nothing(options: tuple[str, ...]) -> None:
    with nobody() as port:
        done = ctl("export", "events", *options, port=port)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"ticketctl: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"


def test_an_export_of_another_reply_exits_with_status_3() -> None:
    with lying(answer("pong")) as liar:
        done = ctl("export", "events", port=liar.port)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1


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


def test_a_script_goes_on_after_an_export(tmp_path: Path) -> None:
    with small(tmp_path) as (daemon, _):
        done = ctl(port=daemon.port, stdin="export events\nping\nexport sales\n")
    event, pong = done.stdout.splitlines()
    assert (msgspec.json.decode(event)["id"], pong) == ("1", "pong")
    count, error = done.stderr.splitlines()
    assert count == "ticketctl: 1 event"
    assert error.startswith("ticketctl: line 3: bad_request: ")
    assert done.returncode == 2


@pytest.mark.parametrize("option", [[], ["--csv"]])
def test_control_characters_in_a_report_are_escaped(option: list[str]) -> None:
    with lying(answer("events", events=[{"id": EVIL, "name": EVIL, **FACTS}])) as liar:
        done = ctl("export", "events", *option, port=liar.port)
    assert not STEERING.search(done.stdout.replace("\r\n", "\n"))
    if option:
        assert cells(done.stdout)[1][:2] == [ESCAPED, ESCAPED]
    else:
        assert rows(done.stdout)[0]["name"] == EVIL


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
