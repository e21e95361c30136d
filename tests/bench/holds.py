"""Tickets that are held while the buyer pays, and then confirmed, beside durable bookings."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.load import BOOK, BOOKED, Load
from tests.bench.servers import ticketd, write_events
from tests.bench.table import Block, Samples, at_least
from ticketd.model import CAPACITY_MAX

HOLD = BOOK.replace('"book"', '"hold"')
CONFIRM = '{"cmd":"confirm","booking":"{n}"}\n'
WAYS = {"hold, and then confirm": Load(50, 1, [HOLD, CONFIRM], BOOKED), "book": Load(50, 1)}
GOALS = {"book": at_least(0.5)}


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure pairs of hold and confirm, from 50 connections."""
    samples = Samples()
    write_events(place, CAPACITY_MAX)
    with ticketd(place) as daemon:
        for _ in range(rounds):
            samples.measure("50x1", {what: partial(daemon.measure, load) for what, load in WAYS.items()})
    yield samples.compared("50x1", "50 buyers hold a ticket, pay, and have it: two durable changes each", "/s", GOALS)
