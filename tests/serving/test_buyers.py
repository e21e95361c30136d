"""Buyers and limits per buyer, as a client sees them. On both ledgers."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.daemon import Connection, Daemon, until

DATE = "2027-03-11T20:00:00Z"
CONNECTIONS = 4


def create(connection: Connection, event: str, options: str = "", capacity: int = 1_000) -> None:
    assert connection.ask(f"create Jazz {DATE} {capacity} --id {event} {options}")["reply"] == "event"


def left(refusal: dict[str, Any]) -> int:
    """Return how many tickets a refusal leaves to its buyer."""
    assert refusal["code"] == "buyer_limit", refusal
    return int(refusal["left"])


def test_a_buyer_gets_no_more_than_the_limit_and_is_told_what_is_left(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "few", "--per-buyer 4")
        create(connection, "other", "--per-buyer 4")
        assert connection.ask("book few 3 --buyer ann --booking few-1")["buyer"] == "ann"
        assert left(connection.ask("book few 2 --buyer ann --booking few-2")) == 1
        assert left(connection.ask("hold few 2 --buyer ann")) == 1
        assert connection.ask("hold few 1 --buyer ann --booking few-3")["state"] == "held"
        assert left(connection.ask("book few 1 --buyer ann")) == 0
        # Another buyer, and the same one elsewhere, have limits of their own.
        assert connection.ask("book few 4 --buyer Ann")["state"] == "confirmed"
        assert connection.ask("book other 4 --buyer ann")["state"] == "confirmed"
        assert connection.ask("book few 1 --buyer ben")["version"] == 4


def test_what_is_given_back_counts_no_more(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "back", "--per-buyer 4")
        booked = connection.ask("book back 4 --buyer ann --booking back-1")
        assert left(connection.ask("book back 1 --buyer ann")) == 0
        connection.ask(f"cancel back-1 --tickets {','.join(booked['tickets'][:2])}")
        assert left(connection.ask("book back 3 --buyer ann")) == 2
        assert connection.ask("hold back 2 --buyer ann --booking back-2")["state"] == "held"
        assert left(connection.ask("book back 1 --buyer ann")) == 0
        connection.ask("release back-2")
        assert connection.ask("hold back 2 --seconds 1 --buyer ann --booking back-3")["state"] == "held"
        until(lambda: connection.ask("show back-3")["state"] == "expired")
        assert connection.ask("book back 2 --buyer ann --booking back-4")["state"] == "confirmed"
        # A late confirmation keeps the limit too.
        assert left(connection.ask("confirm back-3 --late")) == 0
        connection.ask("cancel back-4")
        assert connection.ask("confirm back-3 --late")["state"] == "confirmed"
        # A reissued ticket is still one ticket.
        assert connection.ask(f"reissue {booked['tickets'][3]}")["state"] == "valid"
        assert left(connection.ask("book back 1 --buyer ann")) == 0


def test_with_a_limit_a_booking_needs_its_buyer(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "named", "--per-buyer 2")
        for line in ("book named 1", "hold named 1", "book named 1 --booking named-1"):
            refusal = connection.ask(line)
            assert refusal["code"] == "bad_request"
            assert "buyer" in refusal["message"]
        assert connection.ask("book named 1 --buyer ann --booking named-1")["version"] == 1


def test_the_buyer_is_part_of_what_makes_a_replay_the_same(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "same")
        booked = connection.ask("book same 2 --buyer ann --booking same-1")
        assert connection.ask("book same 2 --buyer ann --booking same-1") == booked | {"replayed": True}
        for other in ("--buyer ben", ""):
            assert connection.ask(f"book same 2 --booking same-1 {other}")["code"] == "booking_conflict"
        # A replay is one too when the buyer could not have another ticket.
        connection.ask("amend same --per-buyer 1")
        assert connection.ask("book same 2 --buyer ann --booking same-1")["replayed"]
        assert left(connection.ask("book same 1 --buyer ann")) == 0


def test_a_limit_that_comes_later_takes_nothing_away(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "later")
        booked = connection.ask("book later 3 --buyer ann --booking later-1")
        connection.ask("hold later 3 --buyer ann --booking later-2")
        assert connection.ask("amend later --per-buyer 5")["per_buyer"] == 5
        assert left(connection.ask("book later 1 --buyer ann")) == 0
        # Whatever does not give her more is done.
        assert connection.ask("extend later-2 400")["reply"] == "booking"
        assert connection.ask("extend later-2 500")["reply"] == "booking"
        assert connection.ask("confirm later-2")["state"] == "confirmed"
        assert connection.ask(f"reissue {booked['tickets'][0]}")["state"] == "valid"
        assert connection.ask(f"cancel later-1 --tickets {booked['tickets'][1]}")["state"] == "confirmed"
        assert left(connection.ask("book later 1 --buyer ann")) == 0
        connection.ask("amend later --per-buyer none")
        assert connection.ask("book later 1")["state"] == "confirmed"


def test_a_limit_counts_from_the_line_in_which_it_is_set(sale: Daemon) -> None:
    with sale.connect() as connection:
        create(connection, "line")
        connection.send(
            b"book line 3 --buyer ann\namend line --per-buyer 2\nbook line 1 --buyer ann\nbook line 2 --buyer ben\n"
            b"amend line --per-buyer 5\nbook line 2 --buyer ann\nbook line 1 --buyer ann\n"
        )
        first, _, second, other, _, third, fourth = [connection.read() for _ in range(7)]
        assert [reply["reply"] for reply in (first, other, third)] == ["booking"] * 3
        assert [left(second), left(fourth)] == [0, 0]


def test_a_crowd_of_one_buyer_gets_exactly_the_limit(sale: Daemon) -> None:
    limit, requests = 7, 50

    def crowd(number: int) -> list[dict[str, Any]]:
        with sale.connect() as connection:
            lines = [f"{('book', 'hold')[n % 2]} crowd 1 --buyer ann\n" for n in range(requests)]
            connection.send("".join(lines).encode())
            return [connection.read() for _ in lines]

    with sale.connect() as connection, ThreadPoolExecutor(CONNECTIONS) as threads:
        create(connection, "crowd", f"--per-buyer {limit}")
        replies = [reply for replies in threads.map(crowd, range(CONNECTIONS)) for reply in replies]
        assert sum(reply["reply"] == "booking" for reply in replies) == limit
        assert all(left(reply) == 0 for reply in replies if reply["reply"] != "booking")
        shown = connection.ask("show crowd")
        assert shown["sold"] + shown["held"] == limit
        page = connection.ask("bookings --event crowd --buyer ann")
        assert sum(booking["quantity"] for booking in page["bookings"]) == limit
