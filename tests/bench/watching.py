"""What it costs to watch a sale: metrics that are read every second, and a log that names each sale."""

import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.bench.cpu import with_cpu
from tests.bench.load import Load
from tests.bench.servers import Server, ticketd, write_events
from tests.bench.table import Block, Figures, Samples, at_least
from ticketd.model import CAPACITY_MAX

METRICS, UNWATCHED = "with metrics, read every second", "without metrics"
NAMED, COUNTED = "each sale is named in the log", "sales are counted in the log"
SCRAPE_SECONDS = 1.0
SHAPES = {"1x1": (1, 1), "50x1": (50, 1), "500x1": (500, 1), "50x16": (50, 16)}
GOALS = {UNWATCHED: at_least(0.99), COUNTED: at_least(0.9)}


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure each way beside the one that it is compared with."""
    samples = Samples()
    with ExitStack() as stack:

        def daemon(name: str, *flags: str) -> Server:
            (folder := place / name).mkdir()
            write_events(folder, CAPACITY_MAX)
            return stack.enter_context(ticketd(folder, *flags))

        plain, watched, naming = daemon("plain"), daemon("watched", "--metrics", "0"), daemon("naming", "--log-sales")
        found = re.search(r" metrics=127\.0\.0\.1:(\d+) ", (place / "watched" / "output.log").read_text())
        assert found
        url = f"http://127.0.0.1:{found[1]}/metrics"
        for _ in range(rounds):
            for shape, (connections, depth) in SHAPES.items():
                load = Load(connections, depth)
                samples.measure(
                    f"metrics, {shape}",
                    {METRICS: partial(_while_scraped, load, watched, url), UNWATCHED: partial(_measured, load, plain)},
                )
                samples.measure(
                    f"log, {shape}",
                    {NAMED: partial(_measured, load, naming), COUNTED: partial(_measured, load, plain)},
                )
    for shape in SHAPES:
        yield samples.compared(f"metrics, {shape}", "durable bookings; what it costs to watch them", "/s", GOALS)
    for shape in SHAPES:
        yield samples.compared(f"log, {shape}", "durable bookings; what it costs to name them", "/s", GOALS)


def _measured(load: Load, server: Server) -> Figures:
    return with_cpu(partial(load.measure, server.port), server.pid)


def _while_scraped(load: Load, server: Server, url: str) -> Figures:
    with _scraping(url):
        return _measured(load, server)


@contextmanager
def _scraping(url: str) -> Iterator[None]:
    """Read the metrics every second, as a Prometheus would that is in a hurry, until the end of the block."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPE_SECONDS):
            with urllib.request.urlopen(url, timeout=SCRAPE_SECONDS) as answer:
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
