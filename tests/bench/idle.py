"""Connections that do nothing: what each costs, and whether those that buy notice them."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.bench.load import Load
from tests.bench.servers import ticketd, write_events
from tests.bench.table import Block, Samples, below
from ticketd.model import CAPACITY_MAX

COUNTS = [1_000, 10_000]
# What this process and the load generator open beside them.
MORE_FILES = 200
FLAGS = ["--idle-seconds-max", "3600", "--connections-max"]

BOOKINGS = "bookings, 50x1, beside them"
NONE = "bookings, 50x1, beside none"
EACH = "memory of each idle connection"
ALL = "memory of the daemon with them"


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure bookings in each round, and memory when the connections have come."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    counts = COUNTS if most == resource.RLIM_INFINITY or sum(COUNTS) + MORE_FILES <= most else []
    samples = Samples()
    with ExitStack() as stack:
        daemons = {}
        for count in [0, *counts]:
            (folder := place / str(count)).mkdir()
            write_events(folder, CAPACITY_MAX)
            daemon = daemons[count] = stack.enter_context(ticketd(folder, *FLAGS, str(count + MORE_FILES)))
            # What it takes anyway is there before the connections come.
            Load(50, 1).measure(daemon.port)
            before = daemon.resident_bytes
            stack.enter_context(daemon.idle_connections(count))
            if count:
                samples.add(_name(count), EACH, (daemon.resident_bytes - before) / count / 1e3)
                samples.add(_name(count), ALL, daemon.resident_bytes / 1e6)
        for _ in range(rounds):
            for count in counts:
                daemon_of = {BOOKINGS: daemons[count], NONE: daemons[0]}
                ways = {what: partial(daemon.measure, Load(50, 1)) for what, daemon in daemon_of.items()}
                samples.measure(_name(count), ways)
    for count in COUNTS:
        if count in counts:
            memory = [
                samples.line(_name(count), EACH, "KB", below(25)),
                samples.line(_name(count), ALL, "MB"),
            ]
            yield samples.compared(_name(count), "people who wait for the sale to begin", "/s", more=memory)
        else:
            yield Block(_name(count), f"left out, since open files are limited to {most:,} (ulimit -Hn)", [])


def _name(count: int) -> str:
    return f"{count:,} idle connections"
