"""A large events.json appears while others ask, and the daemon ends while clients of that catalogue take nothing.

All of its events are on sale then, and the end takes no longer than ``--drain-seconds-max``.
"""

import random
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from tests.daemon import Connection, Daemon, running, until, write_events

EVENTS_OF_A_SIZE = 10_000
STALLED = 10
BUYERS = 5
DRAIN_SECONDS = 4


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Import 10,000 events for each ``size``, sell them, and end; return how slow the slowest answer was."""
    count = EVENTS_OF_A_SIZE * size
    write_events(folder)
    limits = ("--drain-seconds-max", str(DRAIN_SECONDS))
    with running(folder, *limits) as daemon, ExitStack() as stack:
        _write_catalogue(folder, count)
        slowest_ms = _slowest_ping(daemon, count)
        for line in (b"list\n" * 5, b"watch\n") * STALLED:
            # They never read.
            stack.enter_context(daemon.connect()).send(line)
        sold: list[str] = []
        buyers = [
            threading.Thread(target=_buy, args=(daemon, chance.randrange(count), count, sold)) for _ in range(BUYERS)
        ]
        for buyer in buyers:
            buyer.start()
        until(lambda: len(sold) > 100)
        began = time.monotonic()
        assert daemon.end() == 0
        seconds = time.monotonic() - began
        for buyer in buyers:
            buyer.join()
        assert seconds < DRAIN_SECONDS, f"the end took {seconds:.2f} s"
    with running(folder) as daemon, daemon.connect() as connection:
        assert connection.ask("stats")["events"] == count
        for booking in chance.sample(sold, 100):
            assert connection.ask(f"show {booking}")["state"] == "confirmed"
    return {"events": count, "slowest answer, ms": slowest_ms, "sold": len(sold), "seconds of the end": seconds}


def _write_catalogue(folder: Path, count: int) -> None:
    date = "2027-03-11T20:00:00Z"
    events = [
        {
            "ID": f"e{number}",
            "Name": f"Event {number}",
            "Date": date,
            "TotalTickets": 99_999,
            "AvailableTickets": 99_999,
        }
        for number in range(count)
    ]
    (folder / "new").write_bytes(msgspec.json.encode({"events": events}))
    (folder / "new").replace(folder / "events.json")


def _slowest_ping(daemon: Daemon, count: int) -> float:
    """Ask until all events are there; return how long the slowest answer took, in milliseconds."""
    slowest = 0.0
    with daemon.connect() as connection:
        adopted = f"adopted events={count} "
        while not any(adopted in line for line in daemon.lines[-5:]):
            began = time.perf_counter()
            assert connection.ask("ping") == {"reply": "pong"}
            slowest = max(slowest, time.perf_counter() - began)
            time.sleep(0.001)
    return slowest * 1e3


def _buy(daemon: Daemon, first: int, count: int, sold: list[str]) -> None:
    """Buy one ticket of one event after the other, until the daemon ends."""
    with suppress(AssertionError, OSError), daemon.connect() as connection:
        for number in range(first, first + count):
            sold.append(_booked(connection, number % count))


def _booked(connection: Connection, number: int) -> str:
    reply = connection.ask(f"book e{number} 1")
    assert reply["reply"] == "booking"
    booking: str = reply["id"]
    return booking
