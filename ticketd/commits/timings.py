"""Owns how long commits took: histograms since the start, and the slowest commits of the last hour.

``now`` is a time of the loop's clock, in seconds, and passed in.
"""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from heapq import heappush, heappushpop, nlargest

from ticketd.wire.replies import SlowCommit

# The upper bounds of what a histogram counts together.
BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOWEST_MAX = 10
SLOWEST_SECONDS = 3_600.0
# The slowest are kept for each part of that time, so that they can be forgotten one part after the other.
PART_SECONDS = 60.0


class Histogram:
    """How many times were up to each bound, and longer than all of them; and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a time."""
        self.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.sum += seconds


@dataclass(slots=True)
class _Timed:
    ended: float
    commit: SlowCommit

    def __lt__(self, other: "_Timed") -> bool:
        return self.commit.seconds < other.commit.seconds


class Timings:
    """What is known of the commits of this daemon."""

    def __init__(self) -> None:
        # From when a commit begins until it is durable, and of that, from when it is decided.
        self.commit = Histogram()
        self.sync = Histogram()
        # How long the first request of each commit had waited in its queue.
        self.queue = Histogram()
        # The slowest of each part of the last hour, as heaps, with the numbers of the parts.
        self._parts: deque[tuple[int, list[_Timed]]] = deque()

    def record(self, waited: float, took: float, synced: float, now: float) -> bool:
        """Count a commit, and return whether it is one of the slowest so far, to be kept with ``keep``."""
        self.queue.add(waited)
        self.commit.add(took)
        self.sync.add(synced)
        part = int(now // PART_SECONDS)
        if not self._parts or self._parts[-1][0] != part:
            self._parts.append((part, []))
            while self._parts[0][0] < part - SLOWEST_SECONDS // PART_SECONDS:
                self._parts.popleft()
        slowest = self._parts[-1][1]
        return len(slowest) < SLOWEST_MAX or took > slowest[0].commit.seconds

    def keep(self, commit: SlowCommit, now: float) -> None:
        """Keep a commit that ``record`` was just told of."""
        slowest = self._parts[-1][1]
        push = heappush if len(slowest) < SLOWEST_MAX else heappushpop
        push(slowest, _Timed(now, commit))

    def slowest(self, now: float) -> list[SlowCommit]:
        """Return the SLOWEST_MAX slowest commits of the last hour, the slowest first."""
        recent = (timed for _, part in self._parts for timed in part if timed.ended > now - SLOWEST_SECONDS)
        return [timed.commit for timed in nlargest(SLOWEST_MAX, recent)]
