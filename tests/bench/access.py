"""What it costs to know who sells: bookings with a token, over a unix socket, and over TLS, each beside plain ones."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from tests.bench.cpu import with_cpu
from tests.bench.load import TLS, Load, Port
from tests.bench.servers import Server, ticketd, write_events
from tests.bench.table import Block, Samples, Way, at_least, at_most
from tests.faults.certificates import write_certificate
from ticketd import access_file
from ticketd.model import CAPACITY_MAX

TOKEN, OPEN = "with a token", "without an access file"
UNIX, TCP = "unix socket", "TCP"
ENCRYPTED, PLAIN = "TLS", "TCP, the same generator"
SHAPES = {"1x1": (1, 1), "50x1": (50, 1), "500x1": (500, 1), "50x16": (50, 16)}
# The generator that speaks TLS is slow: with more it would be what is measured.
TLS_SHAPES = ("1x1", "50x1")
GOALS = {OPEN: at_least(0.95)}
CPU_GOAL = at_most(1.05)
# By the way that is measured: the one beside it, and what the comparison means.
BLOCKS = {
    TOKEN: (OPEN, "durable bookings; what it costs to know who books"),
    UNIX: (TCP, "durable bookings with a token; what it saves to be on the same machine"),
    ENCRYPTED: (PLAIN, "durable bookings with a token; what it costs that nobody can read them"),
}


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure each way beside the one that it is compared with."""
    samples = Samples()
    access = place / "access.json"
    first = msgspec.json.encode({"cmd": "auth", "token": access_file.add(access, "shop", "seller")}).decode() + "\n"
    certificate, key = write_certificate(place)
    guard = ("--access", str(access))
    with ExitStack() as stack:

        def daemon(name: str, *flags: str) -> Server:
            (folder := place / name).mkdir()
            write_events(folder, CAPACITY_MAX)
            return stack.enter_context(ticketd(folder, *flags))

        # The first two have sold as much as each other.
        bare, known = daemon("open"), daemon("known", *guard)
        near = daemon("near", *guard, "--unix", str(place / "s"))
        encrypted = daemon("tls", *guard, "--tls-certificate", str(certificate), "--tls-key", str(key))

        for _ in range(rounds):
            for shape, (connections, depth) in SHAPES.items():
                # Without an access file, a token says nothing, and is taken: the processor time of both has it.
                load = Load(connections, depth, first=first)
                samples.measure(
                    _name(TOKEN, shape), {TOKEN: _way(load, known, known.port), OPEN: _way(load, bare, bare.port)}
                )
                samples.measure(
                    _name(UNIX, shape),
                    {UNIX: _way(load, near, str((place / "s").absolute())), TCP: _way(load, near, near.port)},
                )
                if shape in TLS_SHAPES:
                    slow = replace(load, in_python=True)
                    samples.measure(
                        _name(ENCRYPTED, shape),
                        {
                            ENCRYPTED: _way(slow, encrypted, f"{TLS}{encrypted.port}"),
                            PLAIN: _way(slow, near, near.port),
                        },
                    )
    for way, (beside, means) in BLOCKS.items():
        for shape in TLS_SHAPES if way == ENCRYPTED else SHAPES:
            goal = CPU_GOAL if way == TOKEN else None
            cpu = samples.cpu(_name(way, shape), way, beside, f"processor time of a booking, {beside}", goal)
            yield samples.compared(_name(way, shape), means, "/s", GOALS, [cpu])


def _way(load: Load, server: Server, port: Port) -> Way:
    return partial(with_cpu, partial(load.measure, port), server.pid)


def _name(way: str, shape: str) -> str:
    return f"{way}, {shape}"
