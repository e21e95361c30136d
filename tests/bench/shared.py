"""Daemons that share a PostgreSQL, beside a commit for each booking in the same PostgreSQL."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.bench.cpu import charged, cpu_seconds, with_cpu
from tests.bench.holds import CONFIRM, HOLD
from tests.bench.load import BOOKED, Load
from tests.bench.machine import HAS_POSTGRES
from tests.bench.servers import Server, ticketd, write_events
from tests.bench.table import Block, Figures, Samples, at_least
from ticketd.model import CAPACITY_MAX

CONNECTIONS = 50
EVENTS = 1_000
# How much longer a round trip to the database takes if it is on another machine.
DISTANCE_MS = 0.5
ONE, MANY, HELD, TWO = "one event", f"{EVENTS:,} events", "hold and confirm", "two daemons"
NEAR, FAR = "one daemon", f"the database {DISTANCE_MS:g} ms away"
COMPUTING = "processor time of PostgreSQL for each"
LOADS = {
    ONE: Load(CONNECTIONS, 1),
    MANY: Load(CONNECTIONS, 1, events=EVENTS),
    HELD: Load(CONNECTIONS, 1, [HOLD, CONFIRM], BOOKED),
}
MEANS = {
    ONE: "50 buyers of one event, on one machine with the database",
    MANY: "50 buyers of many events",
    HELD: "50 buyers of one event who hold, pay, and confirm: two durable changes each",
    TWO: "one event, with half of the buyers at each; they are for more machines",
}
GOALS = {ONE: 12, MANY: 1.5, HELD: 8}
FAR_GOAL = at_least(0.7)
TWO_GOAL = at_least(0.9)


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure 50 connections, what their daemon does with them, and what the fastest program without queues does."""
    if not HAS_POSTGRES:
        return
    from tests.bench.transactions import PAIR, SETTINGS, STATEMENT, Transactions
    from tests.postgres import Postgres

    samples = Samples()
    with ExitStack() as stack:
        server = stack.enter_context(Postgres(None, **SETTINGS))
        # In databases of their own, so that what one way leaves behind is not in the way of another.
        plain = {number: Transactions(server, place, number) for number in (1, EVENTS)}
        database = server.new_database()
        proxy = stack.enter_context(_far_away(place, server.port))
        far_database = server.new_database().replace(f":{server.port}/", f":{proxy.port}/")

        def daemon(name: str, ledger: str) -> Server:
            (folder := place / name).mkdir()
            write_events(folder, *[CAPACITY_MAX] * EVENTS)
            return stack.enter_context(ticketd(folder, "--ledger", ledger))

        one, two, far = daemon("one", database), daemon("two", database), daemon("far", far_database)

        def measured(block: str, load: Load, *daemons: Server) -> Figures:
            ports, pids = [daemon.port for daemon in daemons], [daemon.pid for daemon in daemons]
            before = cpu_seconds(plain[1].pid)
            figures = with_cpu(partial(load.measure, *ports), *pids)
            computed = charged(Figures(0, done=figures.done), before, cpu_seconds(plain[1].pid))
            computed.value = computed.cpu_us
            samples.add(block, COMPUTING, computed)
            return figures

        for _ in range(rounds):
            for name, load in LOADS.items():
                peer, way = plain[load.events], PAIR if name == HELD else STATEMENT
                how = "a transaction each" if name == HELD else "one statement each"
                samples.measure(
                    name,
                    {
                        NEAR: partial(measured, name, load, one),
                        f"{how}, asyncpg": partial(peer.asyncpg, CONNECTIONS, way),
                        f"{how}, pgbench": partial(peer.pgbench, CONNECTIONS, way),
                    },
                )
                samples.measure(_far(name), {FAR: partial(far.measure, load), NEAR: partial(one.measure, load)})
            book = LOADS[ONE]
            samples.measure(TWO, {TWO: partial(measured, TWO, book, one, two), NEAR: partial(one.measure, book)})
    for name, means in MEANS.items():
        goals = dict.fromkeys(samples.others(name), at_least(GOALS[name])) if name in GOALS else {NEAR: TWO_GOAL}
        yield samples.compared(name, means, "/s", goals, [samples.line(name, COMPUTING, "us")])
        if name in LOADS:
            yield samples.compared(_far(name), "the same, from another machine", "/s", {NEAR: FAR_GOAL})


def _far(name: str) -> str:
    return f"{name}, far"


def _far_away(folder: Path, port: int) -> Server:
    """Start what carries connections to a port, and takes its time."""
    command = [sys.executable, "-m", "tests.bench.distance", str(port), str(DISTANCE_MS)]
    return Server(command, folder, r"^ready port=(\d+)$")
