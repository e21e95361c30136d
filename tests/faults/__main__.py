"""Attack the promises at length: ``python -m tests.faults [ATTACK ...] [--size N] [--seed N]``."""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults import (
    clocks,
    connection,
    corruption,
    crowd,
    database,
    events_file,
    every_call,
    failover,
    frozen,
    hands,
    hostile,
    input,
    line,
    many,
    memory,
    opening,
    power_cut,
    readers,
    servers,
    signals,
    strangers,
)

Attack = Callable[[random.Random, int, Path], dict[str, float]]

ATTACKS: dict[str, Attack] = {
    "every-call": every_call.run,
    "power-cut": power_cut.run,
    "crowd": crowd.run,
    "opening": opening.run,
    "line": line.run,
    "hostile": hostile.run,
    "memory": memory.run,
    "readers": readers.run,
    "input": input.run,
    "servers": servers.run,
    "corruption": corruption.run,
    "hands": hands.run,
    "clocks": clocks.run,
    "signals": signals.run,
    "events-file": events_file.run,
    "frozen": frozen.run,
    "daemons": many.run,
    "connection": connection.run,
    "database": database.run,
    "failover": failover.run,
    "strangers": strangers.run,
}


def main() -> None:
    """Run the attacks one after the other; the first promise that is broken ends it with a traceback."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Attack the promises of ticketd.")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"all of them, or some of {', '.join(ATTACKS)}")
    parser.add_argument("--size", type=int, default=10, help="how long (10; the suite does 1)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="the seed of an earlier run")
    options = parser.parse_args()
    if unknown := set(options.attacks) - ATTACKS.keys():
        parser.error(f"there is no attack {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    for name in options.attacks or ATTACKS:
        print(f"{name}: seed {options.seed}, size {options.size}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            figures = ATTACKS[name](random.Random(options.seed), options.size, Path(folder))
        for figure, value in figures.items():
            print(f"  {figure}: {value:,.6g}")
        print(f"  held, in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
