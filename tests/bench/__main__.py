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
from functools import partial
from pathlib import Path

import msgspec

from tests.bench import (
    access,
    backup,
    buyers,
    client,
    growth,
    holds,
    idle,
    library,
    machine,
    quiet,
    reads,
    redeem,
    refusals,
    sales,
    shared,
    sustained,
    watching,
)
from tests.bench.table import HEADING, Block

Section = Callable[[int, Path], Iterator[Block]]

SECTIONS: dict[str, Section] = {
    "sales": sales.run,
    "buyers": buyers.run,
    "refusals": refusals.run,
    "reads": reads.run,
    "holds": holds.run,
    "redeem": redeem.run,
    "quiet": quiet.run,
    "backup": backup.run,
    "growth": growth.run,
    "sustained": sustained.run,
    "idle": idle.run,
    "client": client.run,
    "library": library.run,
    "shared": shared.run,
    "access": access.run,
    "watching": watching.run,
}
LEGEND = """\
Medians of the rounds, in which ticketd and its peers take turns. A ratio is that of the first line of its block to this
line. 50x16 is 50 connections that each have 16 requests on the way; latencies are those of 16 then. All bookings, those
of the peers too, are on the disk before their replies. A MB is a million bytes. user us and sys us: microseconds of
processor time that the server takes for each, with all its threads and child processes, in its programs and in the
kernel. Redis is measured with 1 and with 4 io-threads; the faster of both stands here, in its favour."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Measure, print each block as it is done, and write all figures with ``--json``."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure ticketd beside its peers.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"all of them, or some of {', '.join(SECTIONS)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (5)")
    seconds = sustained.SECONDS_DEFAULT
    parser.add_argument(
        "--sustained-seconds", type=float, default=seconds, metavar="N", help=f"how long sustained takes ({seconds:g})"
    )
    parser.add_argument("--against", type=Path, metavar="TREE", help="in sales, measure that checkout's ticketd too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds there")
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if options.sustained_seconds <= 0:
        parser.error("--sustained-seconds must be more than 0")
    if options.against and not (options.against / "ticketd" / "__main__.py").exists():
        parser.error(f"--against: there is no ticketd in {options.against}")
    sections: dict[str, Section] = {
        **SECTIONS,
        "sales": partial(sales.run, against=options.against),
        "sustained": partial(sustained.run, seconds=options.sustained_seconds),
    }
    for signum in _SIGNALS:
        signal.signal(signum, _exit)
    # PostgreSQL makes a folder of its own there.
    tempfile.tempdir = os.environ.get("BENCH_DIR")
    done: dict[str, list[Block]] = {}
    with tempfile.TemporaryDirectory(prefix="ticketd-bench-") as folder:
        facts = machine.facts(Path(folder), options.rounds, options.against)
        for name, value in facts.items():
            print(f"{name}: {value}")
        for peer in machine.left_out():
            print(f"left out: {peer}")
        print(f"\n{LEGEND}\n\n{HEADING}", flush=True)
        for name in options.sections or sections:
            print(f"\n# {name}", flush=True)
            (place := Path(folder) / name).mkdir()
            done[name] = []
            for block in sections[name](options.rounds, place):
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
