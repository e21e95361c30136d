"""The stampede after sold-out, beside durable bookings."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.load import BOOK, ECHOED, Load
from tests.bench.servers import echo, ticketd, write_events
from tests.bench.table import Block, Samples, at_least
from ticketd.model import CAPACITY_MAX

SOLD_OUT = '{"reply":"error","code":"sold_out"'
WITHOUT_ID = '{"cmd":"book","event":"e000002","quantity":1}\n'
WITH_ID = BOOK.replace("e{e}", "e000002")
BOOKINGS = "bookings of another event"
ECHO = "echo of the same request"
GOALS = {BOOKINGS: at_least(2.5)}
WAYS = {"with booking ids": WITH_ID, "without": WITHOUT_ID}
SHAPES = {"50x1": (50, 1), "50x16": (50, 16)}


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure refusals, with booking ids and without."""
    samples = Samples()
    write_events(place, CAPACITY_MAX, 0)
    (bare_folder := place / "echo").mkdir()
    with ticketd(place) as daemon, echo(bare_folder) as bare:
        for _ in range(rounds):
            for shape, (connections, depth) in SHAPES.items():
                for way, request in WAYS.items():
                    ways = {
                        "refusals": partial(daemon.measure, Load(connections, depth, [request], SOLD_OUT)),
                        BOOKINGS: partial(daemon.measure, Load(connections, depth)),
                        ECHO: partial(bare.measure, Load(connections, depth, [request], ECHOED)),
                    }
                    samples.measure(f"{shape}, {way}", ways)
    for shape in SHAPES:
        for way in WAYS:
            means = "how fast a crowd that comes too late is refused"
            yield samples.compared(f"{shape}, {way}", means, "/s", GOALS)
