"""The door: redeem, annul and reissue, as a client sees them. On both ledgers."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.daemon import Connection, Daemon

DATE = "2027-03-11T20:00:00Z"
DOORS = 4
GREAT_BOOKINGS_PER_COMMIT_MAX = 4


def sold(connection: Connection, event: str, quantity: int = 3) -> list[str]:
    """Put an event on sale, sell one booking of it, and return its tickets."""
    connection.ask(f"create Jazz {DATE} 2000 --id {event}")
    booked = connection.ask(f"book {event} {quantity} --booking {event}-b")
    tickets: list[str] = booked["tickets"]
    return tickets


def test_a_ticket_of_another_event_stays_valid(sale: Daemon) -> None:
    with sale.connect() as connection:
        first, *_ = sold(connection, "tonight")
        for line in (f"redeem {first} --event tomorrow", "redeem tonight-b --event tomorrow"):
            assert connection.ask(line)["code"] == "wrong_event"
        assert connection.ask(f"show {first}")["state"] == "valid"
        assert connection.ask(f"redeem {first} --event tonight")["state"] == "redeemed"
        # Whatever became of it, it is for another event.
        assert connection.ask(f"redeem {first} --event tomorrow")["code"] == "wrong_event"
        assert connection.ask(f"annul {first} --event tomorrow")["code"] == "wrong_event"
        assert connection.ask(f"show {first}")["state"] == "redeemed"


def test_the_same_scan_is_replayed_and_another_one_is_refused(sale: Daemon) -> None:
    with sale.connect() as connection:
        first, *_ = sold(connection, "scan")
        redeemed = connection.ask(f"redeem {first} --scan s1")
        assert connection.ask(f"redeem {first} --scan s1") == redeemed | {"replayed": True}
        for other in ("--scan s2", ""):
            refusal = connection.ask(f"redeem {first} {other}")
            assert (refusal["code"], refusal["redeemed_at"]) == ("already_redeemed", redeemed["redeemed_at"])


def test_a_booking_is_redeemed_at_once_by_one_scan(sale: Daemon) -> None:
    with sale.connect() as connection:
        first, second, third, fourth = sold(connection, "whole", 4)
        connection.ask(f"cancel whole-b --tickets {second}")
        early = connection.ask(f"redeem {first}")["redeemed_at"]
        redeemed = connection.ask("redeem whole-b --scan s1")
        assert redeemed["reply"] == "booking"
        assert redeemed["redeemed"] == [first, third, fourth]
        assert redeemed["redeemed_at"][0] == early
        assert connection.ask("redeem whole-b --scan s1") == redeemed | {"replayed": True}
        for line in ("redeem whole-b --scan s2", f"redeem {third}"):
            assert connection.ask(line)["code"] == "already_redeemed"
        # The ticket of a scan is also known by it.
        assert connection.ask(f"redeem {third} --scan s1")["replayed"]


@pytest.mark.parametrize(
    ("end", "code"),
    [("", "bad_request"), ("release {}", "already_released"), ("confirm {}\ncancel {}", "already_cancelled")],
)
def test_a_booking_without_valid_tickets_lets_nobody_in(sale: Daemon, end: str, code: str) -> None:
    event = f"nobody-{code}".replace("_", "-")
    with sale.connect() as connection:
        connection.ask(f"create Jazz {DATE} 10 --id {event}")
        connection.ask(f"hold {event} 2 --booking {event}-b")
        for line in end.replace("{}", f"{event}-b").splitlines():
            connection.ask(line)
        assert connection.ask(f"redeem {event}-b")["code"] == code
        assert "redeemed" not in connection.ask(f"show {event}-b")


def test_an_annulled_redemption_stays_in_the_history(sale: Daemon) -> None:
    with sale.connect() as connection:
        first, *_ = sold(connection, "annul")
        assert connection.ask(f"annul {first}")["code"] == "not_redeemed"
        redeemed = connection.ask(f"redeem {first} --scan s1")
        annulled = connection.ask(f"annul {first} --event annul --reason 'the wrong door'")
        assert (annulled["state"], [each["what"] for each in annulled["history"]]) == ("valid", ["redeem", "annul"])
        assert annulled["history"][1]["reason"] == "the wrong door"
        assert connection.ask(f"annul {first}") == annulled | {"replayed": True}
        # A scan that was repeated late is told what it was told at first, and lets nobody in.
        assert connection.ask(f"redeem {first} --scan s1") == redeemed | {"replayed": True}
        assert connection.ask(f"show {first}")["state"] == "valid"
        again = connection.ask(f"redeem {first} --scan s2")
        assert (again["state"], len(again["history"])) == ("redeemed", 3)
        assert connection.ask("show annul-b")["redeemed"] == [first]


def test_a_reissued_ticket_is_another_one_for_the_same_place(sale: Daemon) -> None:
    with sale.connect() as connection:
        first, second, third = sold(connection, "reissue")
        before = connection.ask("show reissue")
        new = connection.ask(f"reissue {first}")
        assert (new["state"], new["booking"]) == ("valid", "reissue-b")
        assert new["id"] not in (first, second, third)
        assert connection.ask(f"reissue {first}") == new | {"replayed": True}
        assert connection.ask(f"redeem {first}")["code"] == "already_reissued"
        assert connection.ask(f"show {first}")["state"] == "reissued"
        after = connection.ask("show reissue")
        assert {name for name in before if before[name] != after[name]} == {"version"}
        shown = connection.ask("show reissue-b")
        assert shown["tickets"] == [new["id"], second, third]
        assert shown["changes"][-1]["tickets"] == [first, new["id"]]
        assert connection.ask("redeem reissue-b")["redeemed"] == [new["id"], second, third]
        assert connection.ask(f"reissue {second}")["code"] == "already_redeemed"
        # Another program, after the new one was let in, still gets the new one.
        assert connection.ask(f"reissue {first}")["id"] == new["id"]


def test_doors_that_scan_the_same_tickets_let_each_in_once(sale: Daemon) -> None:
    with sale.connect() as connection:
        tickets = sold(connection, "doors", 100)

    def door(number: int) -> list[dict[str, Any]]:
        with sale.connect() as connection:
            lines = [f"redeem {ticket} --scan door-{number}\n" for ticket in tickets]
            if number == 0:
                lines.insert(50, "redeem doors-b --scan all\n")
            connection.send("".join(lines).encode())
            return [connection.read() for _ in lines]

    with ThreadPoolExecutor(DOORS) as threads:
        replies = [reply for replies in threads.map(door, range(DOORS)) for reply in replies]
    let_in: list[str] = []
    for reply in replies:
        if reply["reply"] == "ticket" and not reply.get("replayed"):
            let_in.append(reply["id"])
        elif reply["reply"] == "error":
            assert reply["code"] == "already_redeemed"
    whole = [reply for reply in replies if reply["reply"] == "booking"]
    # What the whole booking let in is what no door had let in before.
    with sale.connect() as connection:
        shown = connection.ask("show doors-b")
    assert sorted(shown["redeemed"]) == sorted(tickets)
    assert len(let_in) == len(set(let_in))
    if whole:
        assert set(whole[0]["redeemed"]) == set(tickets)
    else:
        assert len(let_in) == len(tickets)


@pytest.mark.parametrize("name", ["big-{}", "big.{:012d}"], ids=["a plain id", "an id like that of a ticket"])
def test_a_commit_redeems_few_great_bookings(sale: Daemon, name: str) -> None:
    with sale.connect() as connection:
        connection.ask(f"create Jazz {DATE} 1000000 --id {name.format(0)}")
        bookings = [name.format(number) for number in range(40)]
        for booking in bookings:
            assert connection.ask(f"book {name.format(0)} 1000 --booking {booking}")["reply"] == "booking"
        while bookings:
            before = connection.ask("stats")["commits"]
            connection.send("".join(f"redeem {booking} --scan {booking}\n" for booking in bookings).encode())
            replies = [connection.read() for _ in bookings]
            redeemed = [reply for reply in replies if reply["reply"] == "booking"]
            assert all(len(reply["redeemed"]) == 1_000 for reply in redeemed)
            # The others are told to come again, and nothing of them is done.
            bookings = [
                booking for booking, reply in zip(bookings, replies, strict=True) if reply.get("code") == "busy"
            ]
            assert len(redeemed) + len(bookings) == len(replies)
            commits = connection.ask("stats")["commits"] - before
            assert 0 < len(redeemed) <= GREAT_BOOKINGS_PER_COMMIT_MAX * commits
