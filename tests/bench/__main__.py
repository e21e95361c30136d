"""``python -m tests.bench``: bookings per second of a daemon, beside a bare echo in the same run.

Rounds are interleaved; figures are medians, with the ratio to the echo. Every booking is durable before its reply.
"""

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.bench.load import Report, load
from tests.daemon import Daemon, running, write_events
from ticketd.model import CAPACITY_MAX

ROUNDS = 3
# connections, depth, requests in a round
SHAPES = [(1, 1, 2_000), (50, 1, 40_000), (500, 1, 50_000), (50, 16, 160_000)]


def main() -> None:
    """Measure and print a table, or JSON with ``--json``."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        write_events(Path(folder), CAPACITY_MAX)
        results: dict[str, dict[str, list[Report]]] = {}
        echo = Daemon(module="tests.bench.echo")
        try:
            echo_port = echo.wait_ready()
            with running(Path(folder)) as daemon:
                for _ in range(ROUNDS):
                    for shape in SHAPES:
                        of_shape = results.setdefault(f"{shape[0]}x{shape[1]}", {"ticketd": [], "echo": []})
                        of_shape["ticketd"].append(load([daemon.port], *shape))
                        of_shape["echo"].append(load([echo_port], *shape))
        finally:
            echo.kill()
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(msgspec.to_builtins(results)) + "\n")
        return
    print("durable bookings of one event (connections x depth), medians of", ROUNDS, "rounds")
    print(f"{'shape':>8} {'bookings/s':>12} {'p50 ms':>8} {'p99 ms':>8} {'echo/s':>12} {'ratio':>6}")
    for shape_name, of_shape in results.items():
        rate, echo_rate = (
            statistics.median(report.requests_per_second for report in of_shape[name]) for name in ("ticketd", "echo")
        )
        p50 = statistics.median(report.p50_ms for report in of_shape["ticketd"])
        p99 = statistics.median(report.p99_ms for report in of_shape["ticketd"])
        assert not any(report.errors for report in of_shape["ticketd"])
        print(f"{shape_name:>8} {rate:>12,.0f} {p50:>8.2f} {p99:>8.2f} {echo_rate:>12,.0f} {rate / echo_rate:>6.2f}")


if __name__ == "__main__":
    main()
