"""ticketctl export reads page by page, and says where it broke off."""

from pathlib import Path

import msgspec
import pytest

from tests.conftest import (
    BREAK,
    answer,
    booked,
    ctl,
    lying,
    nobody,
)
from tests.daemon import running, write_events
from tests.ticketctl.test_export import export, rows
from tests.ticketctl.test_render import FACTS
from ticketd.wire.requests.fields import BOOKINGS_PER_PAGE_MAX


def page(size: int, first: int = 0, *, more: bool = False) -> bytes:
    """Return the reply to ``bookings`` with so many of them."""
    bookings = [msgspec.json.decode(booked(f"b{number:04}")) for number in range(first, first + size)]
    return answer("bookings", bookings=bookings, more=more)


FULL_PAGE = page(BOOKINGS_PER_PAGE_MAX, more=True)


@pytest.mark.parametrize("command", [["list"], ["export", "events"]])
def test_events_are_not_read_in_circles(command: list[str]) -> None:
    first = answer("events", events=[{"id": "1", "name": "E", **FACTS}], more=True)
    with lying(first, answer("events", events=[], more=True)) as liar:
        done = ctl(*command, port=liar.port)
        assert [liar.asked().get("after") for _ in range(2)] == [None, "1"]
        assert not liar.asked_more()
    assert done.returncode == 3
    assert "a page with nothing new" in done.stderr


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
