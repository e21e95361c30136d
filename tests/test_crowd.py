"""The stampede and the crash: what the whole thing exists for, against a real daemon in a process of its own."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from tests.crowds import CROWD_SECONDS_MAX, buy, copied_ledger, crowd
from tests.daemon import Daemon, running, write_events

KILLS = 25


def book(quantity: int, booking: str, event: str = "1") -> dict[str, Any]:
    return {"cmd": "book", "event": event, "quantity": quantity, "booking": booking}


def test_a_crowd_that_wants_3000_of_1000_tickets_gets_exactly_1000(tmp_path: Path) -> None:
    write_events(tmp_path, 1_000)
    orders = [[book(1, f"b-{buyer}-{turn}") for turn in range(15)] for buyer in range(200)]
    with running(tmp_path) as daemon:
        answers = crowd(daemon.port, orders)
        assert [len(replies) for replies in answers] == [15] * 200
        # Everybody asks again, with the same ids: the same tickets, and nothing new.
        again = crowd(daemon.port, orders)
    replies = [reply for of_buyer in answers for reply in of_buyer]
    bookings = [reply for reply in replies if reply["reply"] == "booking"]
    refusals = [reply for reply in replies if reply["reply"] == "error"]
    tickets = [ticket for booking in bookings for ticket in booking["tickets"]]
    assert len(bookings) == len(set(tickets)) == len(tickets) == 1_000
    assert sorted(booking["version"] for booking in bookings) == list(range(1, 1_001))
    assert all(booking["available"] == 1_000 - booking["version"] for booking in bookings)
    assert Counter(refusal["code"] for refusal in refusals) == {"sold_out": 2_000}
    assert {(refusal["available"], refusal["version"]) for refusal in refusals} == {(0, 1_000)}
    for first, second in zip(answers, again, strict=True):
        for reply, repeated in zip(first, second, strict=True):
            assert repeated == (reply if reply["reply"] == "error" else {**reply, "replayed": True})


def test_requests_of_one_connection_take_effect_in_the_order_sent(tmp_path: Path) -> None:
    write_events(tmp_path, 10, 100_000)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        lines = [msgspec.json.encode(book(4, f"b-{turn}", "12"[turn % 2])) + b"\n" for turn in range(500)]
        connection.send(b"".join(lines))
        replies = [connection.read() for _ in lines]
    assert [reply.get("code") for reply in replies[::2]] == [None, None] + ["sold_out"] * 248
    assert [reply["version"] for reply in replies[1::2]] == list(range(1, 251))


def check_ledger(path: Path, capacity: int) -> dict[str, tuple[int, list[str]]]:
    """See that the books balance; return version and tickets of each booking."""
    with sqlite3.connect(path) as database:
        events = database.execute("SELECT id, capacity, available, held, sold, version FROM events").fetchall()
        bookings = database.execute("SELECT id, event, quantity, version, tickets FROM bookings").fetchall()
        tickets = database.execute("SELECT id, booking, event FROM tickets").fetchall()
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()
    of_booking: dict[str, list[str]] = {}
    for ticket, booking, _ in tickets:
        of_booking.setdefault(booking, []).append(ticket)
    for event, of_event, available, held, sold, version in events:
        mine = [row for row in bookings if row[1] == event]
        assert of_event == capacity == available + held + sold
        assert sold == sum(row[2] for row in mine) == sum(row[2] == event for row in tickets)
        assert sorted(row[3] for row in mine) == list(range(1, version + 1))
    for booking, _, quantity, _, listed in bookings:
        assert sorted(listed.split(" ")) == sorted(of_booking[booking])
        assert len(of_booking[booking]) == quantity
    return {row[0]: (row[3], row[4].split(" ")) for row in bookings}


async def crowd_with_a_kill(daemon: Daemon, orders: Sequence[Sequence[dict[str, Any]]], after: int) -> list[Any]:
    """Let everybody buy, and kill the daemon when about ``after`` bookings are acknowledged."""
    acknowledged = 0
    enough = asyncio.Event()

    async def buyer(requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        nonlocal acknowledged
        replies: list[dict[str, Any]] = []
        for request in requests:
            of_one = await buy(daemon.port, [request])
            if not of_one:
                break
            replies += of_one
            acknowledged += 1
            if acknowledged >= after:
                enough.set()
        return replies

    async with asyncio.timeout(CROWD_SECONDS_MAX):
        buying = asyncio.gather(*map(buyer, orders))
        await enough.wait()
        daemon.process.kill()
        answers: list[Any] = await buying
    return answers


def test_kill_9_in_the_middle_of_a_crowd_loses_no_acknowledged_booking_and_doubles_none(tmp_path: Path) -> None:
    capacity = 100_000
    write_events(tmp_path, capacity, capacity)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    acknowledged: dict[str, dict[str, Any]] = {}
    unanswered: list[dict[str, Any]] = []
    for cycle in range(KILLS):
        with running(tmp_path) as daemon:
            # What was not answered when the daemon died is sent again: that settles it.
            for reply in crowd(daemon.port, [unanswered])[0]:
                acknowledged[reply["id"]] = reply
            orders = [
                [book(chance.randint(1, 3), f"b-{cycle}-{buyer}-{turn}", chance.choice("12")) for turn in range(40)]
                for buyer in range(30)
            ]
            answers = uvloop.run(crowd_with_a_kill(daemon, orders, chance.randint(20, 400)))
            daemon.kill()
        for requests, replies in zip(orders, answers, strict=True):
            acknowledged.update((reply["id"], reply) for reply in replies)
            unanswered = [*unanswered[:50], *requests[len(replies) : len(replies) + 1]]
        ledger = check_ledger(copied_ledger(tmp_path), capacity)
        for booking, reply in acknowledged.items():
            assert ledger[booking] == (reply["version"], reply["tickets"])
    with running(tmp_path) as daemon, daemon.connect() as connection:
        for reply in chance.sample(list(acknowledged.values()), 20):
            shown = connection.ask(f"show {reply['id']}")
            assert shown["tickets"] == reply["tickets"]
            ticket = connection.ask(f"show {reply['tickets'][0]}")
            assert (ticket["booking"], ticket["state"]) == (reply["id"], "valid")
