"""What it costs to have sold millions of tickets, and to have a hundred thousand events."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from tests.bench.load import Load, LoadError
from tests.bench.servers import Server, ticketd, write_events
from tests.bench.table import Block, Figures, Samples, at_least, at_most, below, line
from ticketd.model import CAPACITY_MAX

BOOKINGS = [0, 1_000_000, 5_000_000]
EVENTS = [10, 100_000]
SHAPES = {"50x1": Load(50, 1), "50x16": Load(50, 16)}
CONNECTIONS = 100
FILL = Load(50, 16)
FILL_SECONDS = 2.0
# kill -9 comes so long after the load has begun.
KILL_SECONDS = 1.0

SPREAD = "50x1, spread"
EMPTY = "an empty ledger"
FIRST_START = "first start to ready, events.json taken in"
START = "start to ready"
AFTER_KILL = "start to ready after kill -9 under load"
MEMORY = "memory of the daemon"
MEMORY_CONNECTED = f"memory of the daemon, {CONNECTIONS} connections"
DISK = "ledger on disk"
UNITS = {FIRST_START: "s", START: "s", AFTER_KILL: "s", MEMORY: "MB", MEMORY_CONNECTED: "MB", DISK: "MB"}
LEDGER = (START, AFTER_KILL, MEMORY_CONNECTED, DISK)
# What a booking of one ticket took when each ticket had a row of its own.
BYTES_BEFORE = 228
EACH = f"ledger for each booking, before {BYTES_BEFORE} B"
# For the greatest ledger.
GOALS = {
    EMPTY: at_least(0.9),
    START: below(1),
    AFTER_KILL: below(1),
    MEMORY_CONNECTED: below(120),
    EACH: at_most(0.6),
}


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure what is there after many bookings, and then with many events."""
    yield from _bookings(rounds, place)
    yield from _events(rounds, place)


def _bookings(rounds: int, place: Path) -> Iterator[Block]:
    folders = {number: place / f"{number} bookings" for number in BOOKINGS}
    bytes_each: dict[int, float] = {}
    for number, folder in folders.items():
        folder.mkdir()
        write_events(folder, CAPACITY_MAX)
        with ticketd(folder) as daemon:
            while daemon.ask("stats")["bookings"] < number:
                FILL.measure(daemon.port, seconds=FILL_SECONDS)
            made = daemon.ask("stats")["bookings"]
            daemon.end()
        bytes_each[number] = _on_disk(folder) * 1e6 / max(made, 1)
    samples = Samples()
    for _ in range(rounds):
        # One that is empty does not stay so for long.
        with tempfile.TemporaryDirectory(dir=place) as empty:
            folders[0] = shutil.copytree(place / "0 bookings", Path(empty), dirs_exist_ok=True)
            _round(samples, folders)
    for number in BOOKINGS:
        goals = GOALS if number == max(BOOKINGS) else {}
        for shape in SHAPES if number else ():
            name = f"{_named(number)}, {shape}"
            yield samples.compared(name, "how fast it sells when so many are sold", "/s", goals)
        lines = [samples.line(_named(number), what, UNITS[what], goals.get(what)) for what in LEDGER]
        if number:
            ratio = bytes_each[number] / BYTES_BEFORE
            lines.append(line(EACH, "B", [Figures(bytes_each[number])], goals.get(EACH), ratio))
        yield Block(
            _named(number), "how soon it sells again, and what it needs; its files are in the system's cache", lines
        )


def _round(samples: Samples, folders: dict[int, Path]) -> None:
    with ExitStack() as stack:
        daemons: dict[int, Server] = {}
        with ExitStack() as connections:
            for number, folder in folders.items():
                samples.add(_named(number), DISK, _on_disk(folder))
                daemon = daemons[number] = stack.enter_context(ticketd(folder))
                samples.add(_named(number), START, daemon.ready_seconds)
                connections.enter_context(daemon.idle_connections(CONNECTIONS))
            for shape, load in SHAPES.items():
                for number in filter(None, BOOKINGS):
                    daemon_of = {"ticketd": daemons[number], EMPTY: daemons[0]}
                    ways = {what: partial(daemon.measure, load) for what, daemon in daemon_of.items()}
                    samples.measure(f"{_named(number)}, {shape}", ways)
            for number, daemon in daemons.items():
                samples.add(_named(number), MEMORY_CONNECTED, daemon.resident_bytes / 1e6)
        for number, daemon in daemons.items():
            with suppress(LoadError), FILL.running(daemon.port, seconds=2 * KILL_SECONDS):
                time.sleep(KILL_SECONDS)
                daemon.kill()
            with ticketd(folders[number]) as again:
                samples.add(_named(number), AFTER_KILL, again.ready_seconds)
                again.end()


def _events(rounds: int, place: Path) -> Iterator[Block]:
    samples = Samples()
    folders = {number: place / f"{number} events" for number in EVENTS}
    for number, folder in folders.items():
        folder.mkdir()
        write_events(folder, *[CAPACITY_MAX] * number)
        with ticketd(folder) as daemon:
            samples.add(f"{number:,} events", FIRST_START, daemon.ready_seconds)
            daemon.end()
    for _ in range(rounds):
        with ExitStack() as stack:
            daemons = {number: stack.enter_context(ticketd(folder)) for number, folder in folders.items()}
            ways = {
                f"over {number:,} events": partial(daemons[number].measure, Load(50, 1, events=number))
                for number in reversed(EVENTS)
            }
            samples.measure(SPREAD, ways)
            for number, daemon in daemons.items():
                samples.add(f"{number:,} events", START, daemon.ready_seconds)
                samples.add(f"{number:,} events", MEMORY, daemon.resident_bytes / 1e6)
                daemon.end()
    yield samples.compared(SPREAD, "50 buyers of all events, and whether many events slow each other", "/s")
    for name in (f"{number:,} events" for number in EVENTS):
        lines = [samples.line(name, what, UNITS[what]) for what in (FIRST_START, START, MEMORY)]
        yield Block(name, "how soon it sells, and what it needs", lines)


def _named(bookings: int) -> str:
    return f"{bookings:,} bookings"


def _on_disk(folder: Path) -> float:
    """Return how many MB the ledger has."""
    return sum(file.stat().st_size for file in folder.glob("events.db*")) / 1e6
