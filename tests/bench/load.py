"""A load generator: closed loop, many connections, a fixed depth, in a process of its own.

It is ``load.c`` where there is a C compiler; its work hardly stands in the server's way. Without one it is this module.
"""

import asyncio
import atexit
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import cast

import msgspec
import uvloop


class Report(msgspec.Struct):
    """What one run came to. Latencies are of one round trip of a whole window of requests."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


BOOK = '{"cmd":"book","event":"1","quantity":1,"booking":"{n}"}\n'


def load(ports: Sequence[int], connections: int, depth: int, requests: int, template: str = BOOK) -> Report:
    """Send so many requests from connections that are spread over these ports, and return what came of it.

    ``{n}`` in the template is a number that no other request has.
    """
    numbers = [",".join(map(str, ports)), str(connections), str(depth), str(requests), "1"]
    command = [*_generator(), *numbers, '"reply":"error"', template.replace("\n", "\\n")]
    return msgspec.json.decode(subprocess.run(command, check=True, capture_output=True).stdout, type=Report)


@cache
def _generator() -> list[str]:
    """Return the command of the load generator, compiled if possible."""
    compiler = shutil.which("cc")
    if compiler is None:
        return [sys.executable, "-m", "tests.bench.load"]
    folder = tempfile.mkdtemp(prefix="ticketd-load-")
    atexit.register(shutil.rmtree, folder)
    program = str(Path(folder) / "load")
    subprocess.run([compiler, "-O2", "-o", program, str(Path(__file__).with_name("load.c"))], check=True)
    return [program]


class _Client(asyncio.Protocol):
    def __init__(self, name: str, template: str, depth: int, windows: int) -> None:
        self._name = name
        self._template = template
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
        lines = (self._template.replace("{n}", f"{self._name}-{self._left}-{number}") for number in range(self._depth))
        self._transport.write("".join(lines).encode())

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


async def _run(ports: Sequence[int], connections: int, depth: int, requests: int, template: str) -> Report:
    loop = asyncio.get_running_loop()
    windows = max(1, requests // (connections * depth))
    clients: list[_Client] = []
    for number in range(connections):
        name = f"{time.time_ns():x}-{number}"
        client_of = partial(_Client, name, template, depth, windows)
        _, client = await loop.create_connection(client_of, "127.0.0.1", ports[number % len(ports)])
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
    where, connections, depth, requests, _lines, _mark, template = sys.argv[1:]
    ports = [int(port) for port in where.split(",")]
    template = template.replace("\\n", "\n")
    report = uvloop.run(_run(ports, int(connections), int(depth), int(requests), template))
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
