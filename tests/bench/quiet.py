"""One buyer of a quiet event while 500 storm another, and while 250 connections read without end: promises 4 and 6."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.cpu import charged
from tests.bench.load import BOOK, BOOKED, SECONDS, Load
from tests.bench.reads import LIST, MANY
from tests.bench.servers import Server, ticketd, write_events
from tests.bench.table import Block, Figures, Samples, below
from ticketd.model import CAPACITY_MAX

STORM = Load(500, 1)
BUYER = Load(1, 1, [BOOK.replace("e{e}", "e000002")], pause_ms=5)
# The buyer comes when the storm has risen, and is gone before it ends.
RISE_SECONDS = 0.5
QUIET_SECONDS = 2 * SECONDS
STORM_SECONDS = QUIET_SECONDS + 2 * RISE_SECONDS

# What is read: great bookings of another event.
BOOKINGS, TICKETS = 20, 1_000
SHOW, SHOWN = ['{"cmd":"show","id":"b-{e}"}\n'], BOOKED
PAGE, PAGED = ['{"cmd":"bookings","after":"b-{e}"}\n'], '{"reply":"bookings"'
LISTED = '{"reply":"events"'

NAME = "500x1 at one event, 1x1 at another"
MEANS = "a buyer who comes now and then to an event that nobody storms"
READERS = {
    f"250x16 show, {TICKETS:,} tickets each, 1x1 at another event": [Load(250, 16, SHOW, SHOWN, BOOKINGS)],
    "250x16 show, bookings and list of 5,000, 1x1 at another event": [
        Load(84, 16, SHOW, SHOWN, BOOKINGS),
        Load(83, 16, PAGE, PAGED, BOOKINGS),
        Load(83, 16, [LIST], LISTED),
    ],
}
READERS_MEAN = "the same buyer beside programs that read without end"
BUYER_LINE = "the buyer, p99"
COMMIT = "a commit of the storm, mean"
CALM = "the buyer without the storm, p99"
STORM_LINE = "the storm, bookings"
COMMIT_WITHOUT = "a commit of the storm without them, mean"
CALM_WITHOUT = "the buyer without them, p99"
READERS_LINE = "they, replies"
GOAL = below(3)


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure the buyer's latency, and how long a commit of the storm takes."""
    samples = Samples()
    folders = [place / "storm", place / "readers"]
    for folder, events in zip(folders, (2, MANY), strict=True):
        folder.mkdir()
        write_events(folder, *[CAPACITY_MAX] * events)
    with ticketd(folders[0]) as stormed, ticketd(folders[1]) as read:
        for number in range(1, BOOKINGS + 1):
            assert read.ask(f"book e000001 {TICKETS} --booking b-{number:06d}")["reply"] == "booking"
        for _ in range(rounds):
            commit_ms = _beside_storm(samples, stormed)
            for name, loads in READERS.items():
                _beside_readers(samples, read, name, loads, commit_ms)
    storm = samples.line(NAME, STORM_LINE, "/s")
    yield samples.compared(NAME, MEANS, "ms", {COMMIT: GOAL}, [storm])
    for name in READERS:
        readers = samples.line(name, READERS_LINE, "/s")
        yield samples.compared(name, READERS_MEAN, "ms", {COMMIT_WITHOUT: GOAL}, [readers])


def _beside_storm(samples: Samples, daemon: Server) -> float:
    """Measure a round, and return the mean milliseconds of a commit."""
    calm = BUYER.measure(daemon.port)
    with STORM.running(daemon.port, seconds=STORM_SECONDS):
        time.sleep(RISE_SECONDS)
        began, computed, before = time.perf_counter(), daemon.cpu_seconds, daemon.ask("stats")
        quiet = BUYER.measure(daemon.port, seconds=QUIET_SECONDS)
        seconds, computed_then, after = time.perf_counter() - began, daemon.cpu_seconds, daemon.ask("stats")
    commit_ms: float = seconds / (after["commits"] - before["commits"]) * 1e3
    booked = after["bookings"] - before["bookings"]
    samples.add(NAME, BUYER_LINE, slow(quiet))
    samples.add(NAME, COMMIT, commit_ms)
    samples.add(NAME, CALM, slow(calm))
    samples.add(NAME, STORM_LINE, charged(Figures(booked / seconds, done=booked), computed, computed_then))
    return commit_ms


def _beside_readers(samples: Samples, daemon: Server, name: str, loads: list[Load], commit_ms: float) -> None:
    calm = BUYER.measure(daemon.port)
    computed = daemon.cpu_seconds
    with ExitStack() as stack:
        all_figures = [stack.enter_context(load.running(daemon.port, seconds=STORM_SECONDS)) for load in loads]
        time.sleep(RISE_SECONDS)
        quiet = BUYER.measure(daemon.port, seconds=QUIET_SECONDS)
    known = [each for figures in all_figures for each in figures]
    readers = Figures(sum(each.value for each in known), done=sum(each.done or 0 for each in known))
    samples.add(name, BUYER_LINE, slow(quiet))
    samples.add(name, COMMIT_WITHOUT, commit_ms)
    samples.add(name, CALM_WITHOUT, slow(calm))
    samples.add(name, READERS_LINE, charged(readers, computed, daemon.cpu_seconds))


def slow(figures: Figures) -> Figures:
    """Return the figures with the slow end of the latencies as what counts, in milliseconds."""
    assert figures.p99_ms
    return Figures(figures.p99_ms, figures.p50_ms, figures.p99_ms)
