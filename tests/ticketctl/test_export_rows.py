"""What stands in the rows of an export, as JSON and as CSV."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.conftest import (
    answer,
    ctl,
    lying,
)
from tests.daemon import Connection, Daemon, running, write_events
from tests.ticketctl.test_export import REPORTS, cells, export, rows
from tests.ticketctl.test_render import ESCAPED, EVIL, FACTS, STEERING

OPENED = "2026-01-01T09:00:00Z"


@contextmanager
def small(folder: Path) -> Iterator[tuple[Daemon, Connection]]:
    """A daemon with an event of 10 tickets, and a connection to it."""
    write_events(folder, 10)
    with running(folder) as daemon, daemon.connect() as connection:
        yield daemon, connection


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
            *("opens", "closes", "paused", "per_buyer", "waiting"),
        ],
        ["1", "Event 1", "2027-03-01T20:00:00Z", "10", "7", "2", "1", "4", OPENED, "", "false", "4", "0"],
    ]
    assert bookings_csv == [
        [
            *("id", "event", "quantity", "state", "tickets", "available", "version"),
            *("expires", "cancelled", "redeemed", "redeemed_at"),
            *("booked_at", "buyer", "changes", "by", "redeemed_by"),
        ],
        ["a", "1", "2", "held", "", "8", "2", expires, "", "", "", held["booked_at"], "Anna, Zürich", "", "", ""],
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
                "",
                "",
            ),
        ],
    ]
    assert [change["what"] for change in booking["changes"]] == ["cancel"]
    assert tickets_csv == [
        ["id", "event", "booking", "state", "redeemed_at", "buyer", "by"],
        [first, "1", "b", "cancelled", "", "b@example.org", ""],
        [second, "1", "b", "redeemed", at, "b@example.org", ""],
    ]


def test_a_csv_quotes_names_and_ends_lines_with_cr_lf(tmp_path: Path) -> None:
    name = 'Fête 東京, "late" d\'été'
    with small(tmp_path) as (daemon, connection):
        connection.ask(msgspec.json.encode({"cmd": "amend", "event": "1", "name": name}))
        done = export(daemon, "events", "--csv")
    header, line, rest = done.split("\r\n")
    assert header == "id,name,date,capacity,available,held,sold,version,opens,closes,paused,per_buyer,waiting"
    assert line == '1,"Fête 東京, ""late"" d\'été",2027-03-01T20:00:00Z,10,10,0,0,1,,,false,,0'
    assert rest == ""


def test_an_empty_report_has_only_the_header_of_its_csv(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        plain = ctl("export", "bookings", port=daemon.port)
        as_csv = ctl("export", "bookings", "--csv", port=daemon.port)
    assert (plain.returncode, plain.stdout, plain.stderr) == (0, "", "ticketctl: 0 bookings\n")
    assert (as_csv.returncode, as_csv.stderr) == (0, "ticketctl: 0 bookings\n")
    assert len(cells(as_csv.stdout)) == 1


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
