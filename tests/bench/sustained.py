"""Minutes of full load: whether the rate stays, what grows, and whether the daemon ever stands still."""

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.cpu import charged
from tests.bench.load import COMPILER, Load, Stall
from tests.bench.servers import Server, ticketd, write_events
from tests.bench.table import Block, Figures, Line, below, line
from ticketd.model import CAPACITY_MAX

SECONDS_DEFAULT = 300.0
INTERVAL_SECONDS = 10.0
LOAD = Load(50, 16)
# A sync of its own every so often hardly slows the daemon.
PROBE_PAUSE_SECONDS = 0.02
STALL_MS_MAX = 100

NAME = "50x16, one event"
MEANS = "a sale that goes on; each line ends with what is in memory then, and on the disk: ledger + its log"


class Size(NamedTuple):
    """What there is at the end of an interval, in MB."""

    bookings: int
    memory: float
    ledger: float
    log: float


class Disk:
    """Appends 4 KiB to a file and syncs it, again and again, and knows when it did."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._syncs: list[tuple[float, float]] = []
        self._enough = threading.Event()

    @contextmanager
    def probed(self) -> Iterator[None]:
        """Do it while the block runs."""
        thread = threading.Thread(target=self._probe)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()

    def syncs_ms(self, stall: Stall) -> list[tuple[float, float]]:
        """Return of each sync at the time of a stall how long it took, and how much longer than usual within it."""
        usual = statistics.median(ended - began for began, ended in self._syncs) if self._syncs else 0
        return [
            ((ended - began) * 1e3, max(0, min(ended, stall.ended) - max(began, stall.began) - usual) * 1e3)
            for began, ended in self._syncs
            if began < stall.ended and ended > stall.began
        ]

    def _probe(self) -> None:
        block = os.urandom(4096)
        with tempfile.TemporaryFile(dir=self._place, buffering=0) as file:
            while not self._enough.wait(PROBE_PAUSE_SECONDS):
                file.write(block)
                began = time.monotonic()
                os.fdatasync(file.fileno())
                self._syncs.append((began, time.monotonic()))


def run(_: int, place: Path, seconds: float = SECONDS_DEFAULT) -> Iterator[Block]:
    """Measure it once, however many rounds there are."""
    if not COMPILER:
        yield Block(NAME, "left out, since it takes the load generator in C", [])
        return
    write_events(place, CAPACITY_MAX)
    disk = Disk(place)
    lines: list[Line] = []
    sizes: list[Size] = []
    stalls: list[Stall] = []
    with ticketd(place) as daemon, disk.probed():
        began, before, bookings = time.monotonic(), daemon.cpu_seconds, 0
        for report in LOAD.reports(daemon.port, seconds=seconds, interval=min(INTERVAL_SECONDS, seconds / 2)):
            if isinstance(report, Stall):
                stalls.append(report)
                continue
            now = daemon.cpu_seconds
            figures = Figures(report.replies / (report.ended - report.began), done=report.replies)
            bookings += report.replies
            size = _size(daemon, place, bookings)
            what = (
                f"{report.ended - began:.0f} s: memory {size.memory:.0f}, ledger {size.ledger:,.0f} + {size.log:.0f} MB"
            )
            lines.append(line(what, "/s", [charged(figures, before, now)]))
            sizes.append(size)
            before = now
    yield Block(NAME, MEANS, [*lines, *_growth(sizes), *_stalls(stalls, disk)])


def _size(daemon: Server, place: Path, bookings: int) -> Size:
    log = (place / "events.db-wal").stat().st_size
    ledger = sum(file.stat().st_size for file in place.glob("events.db*")) - log
    return Size(bookings, daemon.resident_bytes / 1e6, ledger / 1e6, log / 1e6)


def _growth(sizes: Sequence[Size]) -> list[Line]:
    first, last = sizes[0], sizes[-1]
    each = (last.ledger - first.ledger) * 1e6 / (last.bookings - first.bookings)
    return [
        _one("memory, how much it grew after the 1st line", last.memory - first.memory, "MB"),
        _one("log of the ledger, at its greatest", max(size.log for size in sizes), "MB"),
        _one("ledger without it, for each booking", each, "B"),
    ]


def _stalls(stalls: Sequence[Stall], disk: Disk) -> list[Line]:
    """Return how long it stood still, and how much of that is left without what the disk was slower than usual."""
    lasted_ms = [(stall.ended - stall.began) * 1e3 for stall in stalls]
    syncs_ms = [disk.syncs_ms(stall) for stall in stalls]
    longest, syncs = max(zip(lasted_ms, syncs_ms, strict=True), default=(0, []))
    left_ms = [lasted - sum(within for _, within in syncs) for lasted, syncs in zip(lasted_ms, syncs_ms, strict=True)]
    goal = below(STALL_MS_MAX)
    return [
        _one(f"stalls of more than {STALL_MS_MAX} ms", sum(lasted > STALL_MS_MAX for lasted in lasted_ms), ""),
        _one("longest stall", longest, "ms"),
        _one("longest fdatasync of 4 KiB meanwhile", max((took for took, _ in syncs), default=0), "ms"),
        line("longest stall, without what the disk took", "ms", [Figures(max(left_ms, default=0))], goal),
    ]


def _one(what: str, value: float, unit: str) -> Line:
    return line(what, unit, [Figures(value)])
