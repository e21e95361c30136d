"""``python -m tests.bench [SECTION ...] [--rounds N] [--json FILE]``: what ticketd does beside its peers, as a table.

It takes Linux. All servers run on 127.0.0.1, with their files in a folder under BENCH_DIR, or else where temporary
files are: that should be the disk to sell from. Nothing else should run meanwhile.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tests.bench import client, growth, holds, idle, machine, quiet, reads, refusals, sales, shared
from tests.bench.table import HEADING, Block

Section = Callable[[int, Path], Iterator[Block]]

SECTIONS: dict[str, Section] = {
    "sales": sales.run,
    "refusals": refusals.run,
    "reads": reads.run,
    "holds": holds.run,
    "quiet": quiet.run,
    "growth": growth.run,
    "idle": idle.run,
    "client": client.run,
    "shared": shared.run,
}
LEGEND = """\
Medians of the rounds, in which ticketd and its peers take turns. A ratio is that of the first line of its block to this
line. 50x16 is 50 connections that each have 16 requests on the way; latencies are those of 16 then. All bookings, those
of the peers too, are on the disk before their replies. A MB is a million bytes."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Measure, print each block as it is done, and write all figures with ``--json``."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure ticketd beside its peers.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"all of them, or some of {', '.join(SECTIONS)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds there")
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    for signum in _SIGNALS:
        signal.signal(signum, _exit)
    # PostgreSQL makes a folder of its own there.
    tempfile.tempdir = os.environ.get("BENCH_DIR")
    done: dict[str, list[Block]] = {}
    with tempfile.TemporaryDirectory(prefix="ticketd-bench-") as folder:
        facts = machine.facts(Path(folder), options.rounds)
        for name, value in facts.items():
            print(f"{name}: {value}")
        for peer in machine.left_out():
            print(f"left out: {peer}")
        print(f"\n{LEGEND}\n\n{HEADING}", flush=True)
        for name in options.sections or SECTIONS:
            print(f"\n# {name}", flush=True)
            (place := Path(folder) / name).mkdir()
            done[name] = []
            for block in SECTIONS[name](options.rounds, place):
                done[name].append(block)
                print(block, flush=True)
            if options.json:
                options.json.write_bytes(msgspec.json.encode({"machine": facts, "sections": done}))
    goals = [line for blocks in done.values() for block in blocks for line in block.lines if line.goal]
    print(f"\n{sum(line.met is True for line in goals)} of {len(goals)} goals met")


def _exit(signum: int, _: object) -> None:
    # On the way out the servers are ended, which a second signal must not break off.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
