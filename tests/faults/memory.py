"""Clients that ask for as much as they can and take nothing: what waits for each of them is bounded, and is a number.

They read the largest catalogue and the largest bookings, watch, and send again what was done, in every way.
"""

import random
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from tests.daemon import Connection, running
from tests.faults.hostile import CONNECTION_KIB_MAX, memory_kib
from tests.postgres import Postgres
from tests.secured import Reached
from ticketd.config import Limits
from ticketd.model import CAPACITY_MAX

CONNECTIONS, EVENTS = 40, 10_000
# TLS keeps what it has encrypted, too.
TLS_CONNECTION_KIB_MAX = 3 * 1024
# In JSON each of them is two characters.
NAME = '"' * 200
TICKETS = 1_000
# More than the daemon reads of a connection whose replies are not taken.
REQUESTS, SENT_BYTES = 200, 512 * 1024
# As often the same number of requests has been read, and it takes at most so long.
LOOKS, STILL_SECONDS_MAX = 50, 300.0
FLAGS = ("--write-seconds-max", "600", "--frame-seconds-max", "600", "--log-level", "warning")

# Ids as long as they can be.
CONFIRMED, CANCELLED = "confirmed".ljust(64, "-"), "cancelled".ljust(64, "-")
SHOWS = [f"show {CONFIRMED}", f"show {CANCELLED}"]
# What takes most memory in TLS.
WORST_WITH_TLS = ["list --after e{some}", f"cancel {CANCELLED}\nlist\nshow {CONFIRMED}"]
GREEDY = [
    *SHOWS,
    "bookings",
    f"confirm {CONFIRMED}",
    f"cancel {CANCELLED}",
    f"hold e0 {TICKETS} --booking {CONFIRMED}",
    "list",
    "watch",
    "list --after e{some}",
    "watch\nlist --after e{some}",
    f"cancel {CANCELLED}\nlist\nshow {CONFIRMED}",
    "help",
    "x",
]


def write_long_events(folder: Path, events: int) -> None:
    """Write events that are as long as they can be."""
    facts = {
        "Name": NAME,
        "Date": "2027-03-11T20:00:00Z",
        "TotalTickets": CAPACITY_MAX,
        "AvailableTickets": CAPACITY_MAX,
    }
    content = {"events": [{"ID": f"e{number}", **facts} for number in range(events)]}
    (folder / "events.json").write_bytes(msgspec.json.encode(content))


def make_long_bookings(connection: Connection) -> None:
    """Make bookings that are as long as they can be."""
    for booking in (CONFIRMED, CANCELLED):
        assert connection.ask(f"hold e0 {TICKETS} --booking {booking}")["state"] == "held"
        assert connection.ask(f"confirm {booking}")["state"] == "confirmed"
    assert connection.ask(f"cancel {CANCELLED}")["state"] == "cancelled"


def greedy(connection: socket.socket, lines: str, chance: random.Random, events: int) -> socket.socket:
    """Ask for much, and take nothing."""
    connection.setblocking(False)
    data = "".join(lines.format(some=chance.randrange(events)) + "\n" for _ in range(REQUESTS)).encode()
    with suppress(BlockingIOError, ssl.SSLWantWriteError):
        for _ in range(SENT_BYTES // len(data) + 1):
            connection.sendall(data)
    return connection


def connected(port: int, tls: ssl.SSLContext | None) -> socket.socket:
    """Connect, with little room for replies."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect(("127.0.0.1", port))
    return tls.wrap_socket(connection, server_hostname="127.0.0.1") if tls else connection


def wait_until_nothing_moves(control: Connection) -> None:
    """Wait until nobody can be sent any more."""
    deadline = time.monotonic() + STILL_SECONDS_MAX
    seen: list[int] = []
    while len(seen) < LOOKS or len(set(seen[-LOOKS:])) > 1:
        assert time.monotonic() < deadline, "the daemon does not come to rest"
        # Each look is a request too.
        seen.append(control.ask("stats")["requests"] - len(seen))
        time.sleep(0.01)


def strike(
    chance: random.Random, size: int, folder: Path, kinds: Sequence[str], *flags: str, tls: ssl.SSLContext | None = None
) -> float:
    """Let clients be greedy, and return how many KiB each takes. With ``size`` 10, the catalogue is full."""
    most = TLS_CONNECTION_KIB_MAX if tls else CONNECTION_KIB_MAX
    connections, events = CONNECTIONS * size, min(EVENTS * size**2, Limits().events_max)
    write_long_events(folder, events)
    with running(folder, *FLAGS, *flags) as daemon, ExitStack() as stack:
        control = stack.enter_context(Reached(connected(daemon.port, tls)))
        make_long_bookings(control)
        # Every page is encoded once for all.
        control.events()
        before = memory_kib(daemon, "VmRSS")
        for number in range(connections):
            lines = kinds[number % len(kinds)]
            stack.enter_context(greedy(connected(daemon.port, tls), lines, chance, events))
        wait_until_nothing_moves(control)
        per_connection = (memory_kib(daemon, "VmHWM") - before) / connections
        assert per_connection <= most, f"a connection takes {per_connection:,.0f} KiB"
        assert control.ask("stats")["connections"] == connections + 1
        assert control.ask("book e0 1")["state"] == "confirmed"
    return per_connection


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Strike both ledgers; the one in PostgreSQL, which has the same catalogue in memory, at size 1."""
    folders = [folder / "embedded", folder / "postgres"]
    for each in folders:
        each.mkdir()
    with Postgres() as postgres:
        in_postgres = strike(chance, 1, folders[1], GREEDY, "--ledger", postgres.new_database())
    return {"KiB": strike(chance, size, folders[0], GREEDY), "KiB, PostgreSQL": in_postgres}
