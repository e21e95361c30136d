"""The Python library as a shop uses it, beside the load generator in C, which hardly computes anything.

As a program it is the shop: ``python -m tests.bench.library WAY PORT SECONDS`` books until the time is over.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import uvloop

from tests.bench.cpu import with_cpu
from tests.bench.load import END_SECONDS_MAX, SECONDS, Load
from tests.bench.servers import ticketd, write_events
from tests.bench.table import Block, Figures, Samples, at_least
from ticketctl import AsyncClient, Client
from ticketd.model import CAPACITY_MAX

IN_FLIGHT = 50
EVENT = "e000001"
ASYNCIO, UVLOOP, BLOCKING = "asyncio", "uvloop", "blocking"
# By the way that is measured: how many connections the generator in C has, and what the line says.
WAYS = {
    ASYNCIO: (IN_FLIGHT, f"AsyncClient, {IN_FLIGHT} in flight, asyncio"),
    UVLOOP: (IN_FLIGHT, f"AsyncClient, {IN_FLIGHT} in flight, uvloop"),
    BLOCKING: (1, "Client, one call after the other"),
}
GOALS = {ASYNCIO: at_least(0.5), UVLOOP: at_least(0.5), BLOCKING: None}
COMPUTING = "processor time of the program for a booking"


def run(rounds: int, place: Path) -> Iterator[Block]:
    """Measure each way beside the generator; the processor time in their lines is that of the daemon."""
    samples = Samples()
    write_events(place, CAPACITY_MAX)
    with ticketd(place) as daemon:

        def shop(way: str) -> Figures:
            figures = _program(way, daemon.port)
            samples.add(_name(way), COMPUTING, Figures(figures.cpu_us))
            figures.user_us = figures.system_us = None
            return figures

        for _ in range(rounds):
            for way, (connections, what) in WAYS.items():
                samples.measure(
                    _name(way),
                    {
                        what: partial(with_cpu, partial(shop, way), daemon.pid),
                        _generator(connections): partial(daemon.measure, Load(connections, 1)),
                    },
                )
    for way, (connections, _) in WAYS.items():
        goal = GOALS[way]
        goals = {_generator(connections): goal} if goal else None
        means = "what a shop in Python sells, with one client"
        yield samples.compared(_name(way), means, "/s", goals, [samples.line(_name(way), COMPUTING, "us")])


def _name(way: str) -> str:
    return f"library, {way}"


def _generator(connections: int) -> str:
    return f"the generator in C, {connections}x1"


def _program(way: str, port: int) -> Figures:
    command = [sys.executable, "-m", "tests.bench.library", way, str(port), str(SECONDS)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=SECONDS + END_SECONDS_MAX)
    return msgspec.json.decode(done.stdout, type=Figures)


async def _many(port: int, seconds: float) -> list[float]:
    """Book, with so many calls under way, and return how many ms each took."""
    latencies_ms: list[float] = []
    async with AsyncClient("127.0.0.1", port) as client:

        async def buyer() -> None:
            while time.perf_counter() < until:
                began = time.perf_counter()
                await client.book(EVENT, 1)
                latencies_ms.append((time.perf_counter() - began) * 1e3)

        await client.ping()
        until = time.perf_counter() + seconds
        await asyncio.gather(*(buyer() for _ in range(IN_FLIGHT)))
    return latencies_ms


def _one_after_the_other(port: int, seconds: float) -> list[float]:
    latencies_ms: list[float] = []
    with Client("127.0.0.1", port) as client:
        client.ping()
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            client.book(EVENT, 1)
            latencies_ms.append((time.perf_counter() - began) * 1e3)
    return latencies_ms


def _figures(way: str, port: int, seconds: float) -> Figures:
    before, began = os.times(), time.perf_counter()
    if way == BLOCKING:
        latencies = _one_after_the_other(port, seconds)
    else:
        latencies = (uvloop.run if way == UVLOOP else asyncio.run)(_many(port, seconds))
    took, after = time.perf_counter() - began, os.times()
    latencies.sort()
    return Figures(
        value=len(latencies) / took,
        p50_ms=latencies[len(latencies) // 2],
        p99_ms=latencies[len(latencies) * 99 // 100],
        user_us=(after.user - before.user) * 1e6 / len(latencies),
        system_us=(after.system - before.system) * 1e6 / len(latencies),
        done=len(latencies),
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_figures(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
