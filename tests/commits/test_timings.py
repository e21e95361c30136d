"""How long commits took: what the metrics count, and the slowest that ``stats`` shows."""

from datetime import UTC, datetime

from ticketd.commits.timings import BOUNDS_SECONDS, PART_SECONDS, SLOWEST_MAX, SLOWEST_SECONDS, Histogram, Timings
from ticketd.wire.replies import SlowCommit

DATE = datetime(2027, 3, 11, tzinfo=UTC)


def record(timings: Timings, seconds: float, now: float) -> None:
    if timings.record(0.0, seconds, seconds, now):
        timings.keep(SlowCommit(DATE, seconds, seconds, 1, 1), now)


def slowest(timings: Timings, now: float) -> list[float]:
    return [commit.seconds for commit in timings.slowest(now)]


def test_a_histogram_counts_each_time_up_to_its_bound() -> None:
    histogram = Histogram()
    for seconds in (0.0, BOUNDS_SECONDS[0], BOUNDS_SECONDS[1], 1e3):
        histogram.add(seconds)
    assert histogram.counts == [2, 1, *[0] * (len(BOUNDS_SECONDS) - 2), 1]
    assert histogram.sum == BOUNDS_SECONDS[0] + BOUNDS_SECONDS[1] + 1e3


def test_the_slowest_come_first_and_there_are_ten_of_them() -> None:
    timings = Timings()
    for number in range(1_000):
        record(timings, (number * 7 % 1_000) / 1e3, now=number)
    assert slowest(timings, now=1_000) == [number / 1e3 for number in range(999, 999 - SLOWEST_MAX, -1)]


def test_a_slow_commit_is_forgotten_after_an_hour() -> None:
    timings = Timings()
    record(timings, 9.0, now=5.0)
    record(timings, 8.0, now=5.0 + PART_SECONDS / 2)
    assert slowest(timings, now=5.0 + SLOWEST_SECONDS - 1) == [9.0, 8.0]
    # They are of the same part.
    assert slowest(timings, now=5.0 + SLOWEST_SECONDS) == [8.0]
    record(timings, 0.5, now=5.0 + SLOWEST_SECONDS + PART_SECONDS)
    assert slowest(timings, now=5.0 + SLOWEST_SECONDS + PART_SECONDS) == [0.5]


def test_a_long_time_takes_no_more_memory_than_an_hour() -> None:
    timings = Timings()
    for number in range(20_000):
        record(timings, 1e-3, now=number * 1.0)
    assert sum(len(part) for _, part in timings._parts) <= (SLOWEST_SECONDS / PART_SECONDS + 1) * SLOWEST_MAX
