"""``bookings`` of one event and of one buyer, among many bookings. On both ledgers."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import Connection, Daemon
from ticketd.rules.working_set import BOOKINGS_SEARCHED

DATE = "2027-03-11T20:00:00Z"
# More than two pages look at.
MANY = 2 * BOOKINGS_SEARCHED + 100
FEW = 5


@pytest.fixture(scope="module")
def daemon(sale: Daemon) -> Daemon:
    """A daemon with many bookings of one event, and a few of another one after them."""
    with sale.connect() as connection:
        for event in ("many", "few", "none"):
            connection.ask(f"create Jazz {DATE} 10000 --id {event}")
        lines = [f"book many 1 --booking a-{number:05d} --buyer b{number % 100}\n" for number in range(MANY)]
        lines += [f"book few 1 --booking z-{number:05d} --buyer late\n" for number in range(FEW)]
        for start in range(0, len(lines), 500):
            connection.send("".join(lines[start : start + 500]).encode())
            for _ in lines[start : start + 500]:
                assert connection.read()["reply"] == "booking"
    return sale


def pages(connection: Connection, line: str) -> Iterator[dict[str, Any]]:
    """Yield all pages."""
    page = connection.ask(line)
    yield page
    while page.get("more"):
        after = page["last"]
        page = connection.ask(f"{line} --after {after}")
        assert page.get("last") != after, "it goes on"
        yield page


def test_a_page_searches_so_many_bookings_and_says_where_to_go_on(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        first, second, third = pages(connection, "bookings --event few")
        assert (first["bookings"], first["last"]) == ([], f"a-{BOOKINGS_SEARCHED - 1:05d}")
        assert (second["bookings"], second["last"]) == ([], f"a-{2 * BOOKINGS_SEARCHED - 1:05d}")
        assert [booking["id"] for booking in third["bookings"]] == [f"z-{number:05d}" for number in range(FEW)]
        assert not third.get("more") and "last" not in third


@pytest.mark.parametrize("limit", [40, 100])
@pytest.mark.parametrize(
    ("of", "ids"),
    [
        ("--event many", [f"a-{number:05d}" for number in range(MANY)]),
        ("--buyer b42", [f"a-{number:05d}" for number in range(42, MANY, 100)]),
        ("--event many --buyer b7", [f"a-{number:05d}" for number in range(7, MANY, 100)]),
        ("--event few --buyer b7", []),
        ("--event none", []),
        ("--buyer late", [f"z-{number:05d}" for number in range(FEW)]),
    ],
)
def test_all_pages_together_have_each_booking_once(daemon: Daemon, of: str, ids: list[str], limit: int) -> None:
    with daemon.connect() as connection:
        found = [
            booking for page in pages(connection, f"bookings {of} --limit {limit}") for booking in page["bookings"]
        ]
    assert [booking["id"] for booking in found] == ids


def test_a_search_of_an_event_that_is_unknown_is_refused(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        assert connection.ask("bookings --event nowhere")["code"] == "event_not_found"
        assert connection.ask("bookings --event nowhere --buyer b7")["code"] == "event_not_found"
        assert connection.ask("ping") == {"reply": "pong"}
