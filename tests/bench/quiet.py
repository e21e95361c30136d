"""One buyer of a quiet event while 500 storm another: promise 4 in figures."""

import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.load import BOOK, SECONDS, Load
from tests.bench.servers import ticketd, write_events
from tests.bench.table import Block, Figures, Samples, below
from ticketd.model import CAPACITY_MAX

STORM = Load(500, 1)
BUYER = Load(1, 1, [BOOK.replace("e{e}", "e000002")], pause_ms=5)
# The buyer comes when the storm has risen, and is gone before it ends.
RISE_SECONDS = 0.5
QUIET_SECONDS = 2 * SECONDS

NAME = "500x1 at one event, 1x1 at another"
MEANS = "a buyer who comes now and then to an event that nobody storms"
BUYER_LINE = "the buyer, p99"
COMMIT = "a commit of the storm, mean"
CALM = "the buyer without the storm, p99"
STORM_LINE = "the storm, bookings"


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure the buyer's latency, and how long a commit takes meanwhile."""
    samples = Samples()
    write_events(place, CAPACITY_MAX, CAPACITY_MAX)
    with ticketd(place) as daemon:
        for _ in range(rounds):
            calm = BUYER.measure(daemon.port)
            with STORM.running(daemon.port, seconds=QUIET_SECONDS + 2 * RISE_SECONDS):
                time.sleep(RISE_SECONDS)
                began, before = time.perf_counter(), daemon.ask("stats")
                quiet = BUYER.measure(daemon.port, seconds=QUIET_SECONDS)
                seconds, after = time.perf_counter() - began, daemon.ask("stats")
            samples.add(NAME, BUYER_LINE, _slow(quiet))
            samples.add(NAME, COMMIT, seconds / (after["commits"] - before["commits"]) * 1e3)
            samples.add(NAME, CALM, _slow(calm))
            samples.add(NAME, STORM_LINE, (after["bookings"] - before["bookings"]) / seconds)
    storm = samples.line(NAME, STORM_LINE, "/s")
    yield samples.compared(NAME, MEANS, "ms", {COMMIT: below(3)}, [storm])


def _slow(figures: Figures) -> Figures:
    """Return the figures with the slow end of the latencies as what counts, in milliseconds."""
    assert figures.p99_ms
    return Figures(figures.p99_ms, figures.p50_ms, figures.p99_ms)
