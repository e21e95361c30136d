"""ticketctl as scripts use it: a process for each command."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.servers import ticketd, write_events
from tests.bench.table import Block, Samples, below
from ticketd.model import CAPACITY_MAX

RUNS_PER_ROUND = 4
PYTHON = "python -c pass"


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure from the start of the process to its end."""
    samples = Samples()
    write_events(place, *[CAPACITY_MAX] * 3)
    with ticketd(place) as daemon:
        commands = {
            "ticketctl list": ["-m", "ticketctl", "--port", str(daemon.port), "list"],
            PYTHON: ["-c", "pass"],
        }
        for _ in range(rounds * RUNS_PER_ROUND):
            for what, arguments in commands.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
                samples.add("one command", what, (time.perf_counter() - began) * 1e3)
    yield samples.compared("one command", "how long a shell script waits for ticketctl", "ms", {PYTHON: below(6)})
