"""Bookings of an event that limits how many tickets a buyer may have, beside those of one that does not."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.load import BOOK, Load
from tests.bench.servers import ticketd, write_events
from tests.bench.table import Block, Samples, Way, at_least, at_most
from ticketd.model import CAPACITY_MAX

LIMIT = 4
# Each booking has a buyer of its own, as in a crowd.
WITH_BUYER = BOOK.replace("}\n", ',"buyer":"{n}"}\n')

LIMITED = f"with a buyer, at most {LIMIT} tickets each"
NAMED = "with a buyer"
PLAIN = "plain"
CPU = "processor time of a plain booking"
WAYS = {
    LIMITED: WITH_BUYER.replace("e{e}", "e000002"),
    NAMED: WITH_BUYER,
    PLAIN: BOOK,
}
SHAPES = {"50x1": (50, 1), "500x1": (500, 1), "50x16": (50, 16)}
MEANS = "durable bookings; what it costs to count the tickets of each buyer"
GOALS = {PLAIN: at_least(0.8)}
CPU_GOAL = at_most(1.5)


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure bookings with a buyer and a limit, with a buyer, and plain ones."""
    samples = Samples()
    write_events(place, CAPACITY_MAX, CAPACITY_MAX)
    with ticketd(place) as daemon:
        assert daemon.ask(f"amend e000002 --per-buyer {LIMIT}")["per_buyer"] == LIMIT
        for _ in range(rounds):
            for shape, (connections, depth) in SHAPES.items():
                ways: dict[str, Way] = {
                    what: partial(daemon.measure, Load(connections, depth, [request])) for what, request in WAYS.items()
                }
                samples.measure(shape, ways)
    for shape in SHAPES:
        cpu = samples.cpu(shape, LIMITED, PLAIN, CPU, CPU_GOAL)
        yield samples.compared(shape, MEANS, "/s", GOALS, [cpu])
