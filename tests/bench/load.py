"""A load generator: closed loop, many connections, a fixed depth. One process; asyncio protocols on uvloop.

``load`` runs it in a process of its own, so that its work does not stand in the server's way.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import cast

import msgspec
import uvloop


class Report(msgspec.Struct):
    """What one run came to. Latencies are of one round trip of a whole window of requests."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def load(ports: Sequence[int], connections: int, depth: int, requests: int) -> Report:
    """Book a ticket of event 1 so often, from connections that are spread over these ports; return what came of it."""
    line = '{"cmd":"book","event":"1","quantity":1}'
    arguments = [",".join(map(str, ports)), line, str(connections), str(depth), str(requests)]
    command = [sys.executable, "-m", "tests.bench.load", *arguments]
    return msgspec.json.decode(subprocess.run(command, check=True, capture_output=True).stdout, type=Report)


class _Client(asyncio.Protocol):
    def __init__(self, line: bytes, depth: int, windows: int) -> None:
        self._window = line * depth
        self._depth = depth
        self._left = windows
        self._missing = depth
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def start(self) -> None:
        self._missing = self._depth
        self._sent = time.perf_counter()
        self._transport.write(self._window)

    def data_received(self, data: bytes) -> None:
        self._missing -= data.count(b"\n")
        if b'"error"' in data:
            self.errors += data.count(b'"error"')
        if self._missing == 0:
            self.latencies.append(time.perf_counter() - self._sent)
            self._left -= 1
            if self._left:
                self.start()
            else:
                self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server closed the connection"))


async def _run(ports: Sequence[int], line: bytes, connections: int, depth: int, requests: int) -> Report:
    loop = asyncio.get_running_loop()
    windows = max(1, requests // (connections * depth))
    clients: list[_Client] = []
    for number in range(connections):
        port = ports[number % len(ports)]
        _, client = await loop.create_connection(lambda: _Client(line, depth, windows), "127.0.0.1", port)
        clients.append(client)
    began = time.perf_counter()
    for client in clients:
        client.start()
    async with asyncio.timeout(120):
        await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - began
    latencies = sorted(latency for client in clients for latency in client.latencies)
    return Report(
        requests_per_second=connections * depth * windows / seconds,
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1e3,
        errors=sum(client.errors for client in clients),
    )


if __name__ == "__main__":
    where, line, *numbers = sys.argv[1:]
    ports = [int(port) for port in where.split(",")]
    report = uvloop.run(_run(ports, line.encode() + b"\n", *map(int, numbers)))
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
