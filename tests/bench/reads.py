"""What people look at before they buy, and after: the list, an event, their booking."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.load import ECHOED, Load
from tests.bench.servers import echo, ticketd, write_events
from tests.bench.table import Block, Samples, at_least
from ticketd.model import CAPACITY_MAX

ECHO = "echo of the same request"
FEW, MANY = 3, 5_000
LIST = '{"cmd":"list"}\n'
# By name: how many events there are, the request, how the reply begins, and what it means.
READS = {
    "list of 3": (FEW, LIST, '{"reply":"events"', "50 people look at what there is, again and again"),
    "list of 5,000": (MANY, LIST, '{"reply":"events"', "the first page of a catalogue that is 0.7 MB long"),
    "show of an event": (FEW, '{"cmd":"show","id":"e000001"}\n', '{"reply":"event"', "50 people look at one event"),
    "show of a booking": (FEW, '{"cmd":"show","id":"b-1"}\n', '{"reply":"booking"', "50 people look at what they have"),
}
GOALS = {"list of 3": {ECHO: at_least(0.75)}}


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure each request from 50 connections."""
    samples = Samples()
    folders = {name: place / name for name in ("few", "many", "echo")}
    for folder in folders.values():
        folder.mkdir()
    write_events(folders["few"], *[CAPACITY_MAX] * FEW)
    write_events(folders["many"], *[CAPACITY_MAX] * MANY)
    with ticketd(folders["few"]) as few, ticketd(folders["many"]) as many, echo(folders["echo"]) as bare:
        assert few.ask("book e000001 1 --booking b-1")["reply"] == "booking"
        for _ in range(rounds):
            for name, (events, request, expected, _) in READS.items():
                daemon = few if events == FEW else many
                ways = {"ticketd": partial(daemon.measure, Load(50, 1, [request], expected))}
                if events == FEW:
                    ways[ECHO] = partial(bare.measure, Load(50, 1, [request], ECHOED))
                samples.measure(name, ways)
    for name, (_, _, _, means) in READS.items():
        yield samples.compared(name, means, "/s", GOALS.get(name))
