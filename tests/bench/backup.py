"""One buyer of a quiet event while 500 storm another, and while the ledger is backed up again and again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.growth import FILL, FILL_SECONDS
from tests.bench.quiet import BUYER, BUYER_LINE, COMMIT, GOAL, QUIET_SECONDS, RISE_SECONDS, STORM, STORM_SECONDS, slow
from tests.bench.servers import Server, ticketd, write_events
from tests.bench.table import Block, Figures, Samples
from ticketd.model import CAPACITY_MAX

BOOKINGS = 1_000_000

NAME = f"500x1 at one event, backups of {BOOKINGS:,} bookings and more, 1x1 at another"
MEANS = "the same buyer while backups are written, one after the other"
COMMIT_WITHOUT = f"{COMMIT}, without them"
WITHOUT = "the buyer without them, p99"
STORM_LINE = "the storm, bookings"
STORM_WITHOUT = "the storm without them, bookings"
SPEED = "a backup, written and checked"


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure the buyer's latency beside a storm, with and without backups."""
    write_events(place, CAPACITY_MAX, CAPACITY_MAX)
    samples = Samples()
    with ticketd(place) as daemon:
        while daemon.ask("stats")["bookings"] < BOOKINGS:
            FILL.measure(daemon.port, seconds=FILL_SECONDS)
        for _ in range(rounds):
            calm, commit_ms, calm_storm = _buyer_beside_storm(daemon)
            with _backing_up(daemon, place) as written:
                buyer, commit_beside_ms, storm = _buyer_beside_storm(daemon)
            samples.add(NAME, BUYER_LINE, buyer)
            samples.add(NAME, COMMIT, commit_beside_ms)
            samples.add(NAME, COMMIT_WITHOUT, commit_ms)
            samples.add(NAME, WITHOUT, calm)
            samples.add(NAME, STORM_LINE, storm)
            samples.add(NAME, STORM_WITHOUT, calm_storm)
            samples.add(NAME, SPEED, sum(bytes for bytes, _ in written) / sum(seconds for _, seconds in written) / 1e6)
    more = [
        samples.line(NAME, what, unit) for what, unit in ((STORM_LINE, "/s"), (STORM_WITHOUT, "/s"), (SPEED, "MB/s"))
    ]
    yield samples.compared(NAME, MEANS, "ms", {COMMIT_WITHOUT: GOAL}, more)


def _buyer_beside_storm(daemon: Server) -> tuple[Figures, float, float]:
    """Return the buyer's latency, the mean milliseconds of a commit, and how much the storm books a second."""
    with STORM.running(daemon.port, seconds=STORM_SECONDS):
        time.sleep(RISE_SECONDS)
        began, before = time.perf_counter(), daemon.ask("stats")
        buyer = BUYER.measure(daemon.port, seconds=QUIET_SECONDS)
        seconds, after = time.perf_counter() - began, daemon.ask("stats")
    commits, bookings = (after[name] - before[name] for name in ("commits", "bookings"))
    return slow(buyer), seconds / commits * 1e3, bookings / seconds


@contextmanager
def _backing_up(daemon: Server, place: Path) -> Iterator[list[tuple[int, float]]]:
    """Write backups until the end of the block; what is yielded gets the bytes and the seconds of each."""
    written: list[tuple[int, float]] = []
    ends = threading.Event()

    def write() -> None:
        while not ends.is_set():
            reply = daemon.ask("backup bench")
            assert reply["reply"] == "backup", reply
            written.append((reply["bytes"], reply["seconds"]))
            (place / "backups" / "bench.db").unlink()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        ends.set()
        thread.join()
