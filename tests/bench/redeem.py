"""A great booking whose tickets come to the door one by one."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.cpu import with_cpu
from tests.bench.servers import Server, ticketd, write_events
from tests.bench.table import Block, Figures, Samples
from tests.daemon import Connection
from ticketd.model import CAPACITY_MAX

TICKETS = 1_000
# How many are on the way at once, and how many bookings are used up: enough of them to measure.
DEPTHS = {1: 2, 16: 20}
REDEEMED = b'{"reply":"ticket"'
NAME = f"a booking of {TICKETS:,} tickets"


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure one connection that redeems all tickets of a booking, one booking after the other."""
    samples = Samples()
    write_events(place, CAPACITY_MAX)
    with ticketd(place) as daemon:
        for _ in range(rounds):
            for depth, bookings in DEPTHS.items():
                booked = [daemon.ask(f"book e000001 {TICKETS}") for _ in range(bookings)]
                tickets = [ticket for booking in booked for ticket in booking["tickets"]]
                samples.add(NAME, _line(depth), with_cpu(partial(_redeem, daemon, tickets, depth), daemon.pid))
    lines = [samples.line(NAME, _line(depth), "/s") for depth in DEPTHS]
    yield Block(NAME, "its owners come one by one, and each ticket lets in once", lines)


def _redeem(daemon: Server, tickets: list[str], depth: int) -> Figures:
    """Return tickets per second when so many are on the way at once, and how long each of such a group takes."""
    requests = [b'{"cmd":"redeem","ticket":"%s"}\n' % ticket.encode() for ticket in tickets]
    latencies_ms = []
    with Connection(daemon.port) as connection, connection.socket.makefile("rb") as replies:
        began = time.perf_counter()
        for first in range(0, len(requests), depth):
            group = requests[first : first + depth]
            sent = time.perf_counter()
            connection.send(b"".join(group))
            for _ in group:
                reply = replies.readline()
                assert reply.startswith(REDEEMED), reply[:300]
            latencies_ms.append((time.perf_counter() - sent) * 1e3)
        took = time.perf_counter() - began
    latencies_ms.sort()
    p50, p99 = latencies_ms[len(latencies_ms) // 2], latencies_ms[len(latencies_ms) * 99 // 100]
    return Figures(len(requests) / took, p50, p99, done=len(requests))


def _line(depth: int) -> str:
    return f"tickets redeemed, {depth} on the way"
