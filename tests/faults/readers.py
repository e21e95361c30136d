"""Readers without end beside a buyer of another event: they wait for their turn, and the buyer hardly waits for them.

They read bookings of a thousand tickets, pages of them and of the catalogue, and watch everything. Time is measured
beside the same readers at a neighbor's, who take as much of the machine. The suite has this by counts: in
``test_fair_share`` and ``test_reader``.
"""

import random
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.load import BOOK, Load
from tests.bench.servers import write_events
from tests.bench.table import Figures
from tests.daemon import Daemon, running
from ticketd.config import Limits
from ticketd.model import CAPACITY_MAX

BOOKINGS, TICKETS = 20, 1_000
EVENTS = 1_000
WATCHERS = 50
SECONDS = 2.0
# Others may use the machine too, so of some tries the best one counts.
TRIES = 5
RATIO_MAX = 3.0

BOOKED = '{"reply":"booking"'
READERS = [
    Load(84, 16, ['{"cmd":"show","id":"b-{e}"}\n'], BOOKED, BOOKINGS),
    Load(83, 16, ['{"cmd":"bookings","after":"b-{e}"}\n'], '{"reply":"bookings"', BOOKINGS),
    Load(42, 16, ['{"cmd":"list"}\n'], '{"reply":"events"'),
    Load(41, 16, ['{"cmd":"list","after":"e{e}"}\n'], '{"reply":"events"', EVENTS // 2),
]
BUYER = Load(1, 1, [BOOK.replace("e{e}", "e000002")], pause_ms=5)


@contextmanager
def watching(port: int) -> Iterator[None]:
    """Watch everything, over many connections that take what they get, until the end of the block."""
    over = threading.Event()

    def take(selector: selectors.BaseSelector) -> None:
        while not over.is_set():
            for key, _ in selector.select(0.1):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.recv(256 * 1024)

    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(WATCHERS):
            watcher = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            watcher.sendall(b"watch\n")
            selector.register(watcher, selectors.EVENT_READ)
        thread = threading.Thread(target=take, args=[selector])
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def buy(daemon: Daemon, struck: Daemon, size: int) -> Figures:
    """Return how long a buyer waits while readers strike one of the daemons."""
    seconds = SECONDS * size
    with ExitStack() as stack:
        stack.enter_context(watching(struck.port))
        for load in READERS:
            stack.enter_context(load.running(struck.port, seconds=seconds))
        return BUYER.measure(daemon.port, seconds=seconds / 2)


def prepare(daemon: Daemon) -> None:
    """Make the bookings that are read."""
    with daemon.connect() as connection:
        for number in range(1, BOOKINGS + 1):
            assert connection.ask(f"book e000001 {TICKETS} --booking b-{number:06d}")["state"] == "confirmed"


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Let readers strike a daemon, and a neighbor; with ``size`` 10, with a catalogue that is full."""
    folders = [folder / "own", folder / "neighbor"]
    for each in folders:
        each.mkdir()
        write_events(each, *[CAPACITY_MAX] * min(EVENTS * size**2, Limits().events_max))
    with running(folders[0]) as daemon, running(folders[1]) as neighbor:
        prepare(daemon)
        prepare(neighbor)
        for _ in range(TRIES):
            figures = {
                f"{where}, {name}": value
                for where, struck in (("neighbor", neighbor), ("own", daemon))
                for name, value in latencies(buy(daemon, struck, size)).items()
            }
            figures["p99 ratio"] = figures["own, p99 ms"] / figures["neighbor, p99 ms"]
            if figures["p99 ratio"] <= RATIO_MAX:
                return figures
    raise AssertionError(f"readers delay a buyer of another event: {figures}")


def latencies(buyer: Figures) -> dict[str, float]:
    """Return what a buyer waited, in milliseconds."""
    assert buyer.p50_ms
    assert buyer.p99_ms
    return {"p50 ms": buyer.p50_ms, "p99 ms": buyer.p99_ms}
