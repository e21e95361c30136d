"""A load generator: closed loop, many connections, a fixed depth, in a process of its own.

It is ``load.c``, which tells what its arguments mean, where there is a C compiler; its work hardly stands in the
server's way. Without one it is this module.
"""

import asyncio
import atexit
import math
import os
import random
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

from tests.bench.table import Figures

# How long one measurement takes.
SECONDS = 2.0
# How long the last replies may take.
END_SECONDS_MAX = 30.0

BOOK = '{"cmd":"book","event":"e{e}","quantity":1,"booking":"{n}"}\n'
WELCOME = '{"reply":"welcome"'
BOOKED = '{"reply":"booking"'
ECHOED = '{"cmd":'
TLS = "tls:"
# A port of 127.0.0.1, with TLS or without, or the path of a unix socket.
Port = int | str
_IN_PYTHON = [sys.executable, "-m", "tests.bench.load"]
COMPILER = shutil.which("cc")
# How long what stands for these in a template is.
WIDTHS = {"{n}": 26, "{e}": 6}


class LoadError(Exception):
    """A reply was not as expected, or did not come."""


class Interval(Struct, tag="interval"):
    """What came in it, by the monotonic clock."""

    began: float
    ended: float
    replies: int


class Stall(Struct, tag="stall"):
    """A time without any reply, by the monotonic clock."""

    began: float
    ended: float


@dataclass(frozen=True)
class Load:
    """So many connections that each send ``depth`` requests at once, of one template after the other.

    Only this module speaks TLS, at a port such as "tls:8080", or anywhere if ``in_python``.
    """

    connections: int
    depth: int
    templates: Sequence[str] = (BOOK,)
    expected: str = BOOKED
    events: int = 1
    pause_ms: float = 0
    # What each connection says first, and what answers it.
    first: str = ""
    in_python: bool = False

    def measure(self, *ports: Port, seconds: float = SECONDS) -> Figures:
        """Return how often a second all templates were answered. A reply that is not as expected is an error."""
        done = subprocess.run(self._command(ports, seconds), capture_output=True, text=True)
        if done.returncode:
            raise LoadError(done.stderr)
        return msgspec.json.decode(done.stdout, type=Figures)

    def reports(self, port: int, *, seconds: float, interval: float) -> Iterator[Interval | Stall]:
        """Do it, and tell each interval and each stall when it is over. Only ``load.c`` can do this."""
        command = self._command([port], seconds, interval)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout and process.stderr
            try:
                for line in process.stdout:
                    if line.startswith(b'{"type"'):
                        yield msgspec.json.decode(line, type=Interval | Stall)
                said = process.stderr.read()
                process.wait()
            finally:
                process.kill()
        if process.returncode:
            raise LoadError(said.decode())

    @contextmanager
    def running(self, *ports: Port, seconds: float) -> Iterator[list[Figures]]:
        """Do it while the block runs, and then to its end; then the figures are in the list."""
        process = subprocess.Popen(self._command(ports, seconds), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        figures: list[Figures] = []
        try:
            yield figures
            output, said = process.communicate(timeout=seconds + END_SECONDS_MAX)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise LoadError(said.decode())
        figures.append(msgspec.json.decode(output, type=Figures))

    def _command(self, ports: Sequence[Port], seconds: float, interval: float = 0) -> list[str]:
        numbers = [self.connections, self.depth, seconds, self.pause_ms, self.events, interval]
        program = _IN_PYTHON if self.in_python else _generator()
        return [*program, ",".join(map(str, ports)), *map(str, numbers), self.first, self.expected, *self.templates]


@cache
def _generator() -> list[str]:
    """Return the command of the load generator, compiled if possible."""
    if COMPILER is None:
        return _IN_PYTHON
    folder = tempfile.mkdtemp(prefix="ticketd-load-")
    atexit.register(shutil.rmtree, folder)
    program = str(Path(folder) / "load")
    subprocess.run([COMPILER, "-O2", "-o", program, str(Path(__file__).with_name("load.c"))], check=True)
    return [program]


class _Client(asyncio.Protocol):
    def __init__(self, load: Load, numbers: Iterator[int], until: Callable[[], float]) -> None:
        self._load = load
        self._numbers = numbers
        self._until = until
        self._received = b""
        self._turn = 0
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies_ms: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if self._load.first:
            self._transport.write(self._load.first.encode())
        else:
            self.welcome.set_result(None)

    def send(self) -> None:
        if self._turn == 0:
            self._sent = time.perf_counter()
            prefix = f"{int(time.time()):08x}-{os.getpid() & 0xFFFFFF:06x}"
            self._names = [f"{prefix}-{next(self._numbers):010d}" for _ in range(self._load.depth)]
        template = self._load.templates[self._turn]
        self._turn = (self._turn + 1) % len(self._load.templates)
        requests = (
            template.replace("{n}", name).replace("{e}", f"{random.randint(1, self._load.events):06d}")
            for name in self._names
        )
        self._transport.write("".join(requests).encode())

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self.welcome.done():
            if self._received.endswith(b"\n"):
                assert self._received.startswith(WELCOME.encode()), self._received
                self._received = b""
                self.welcome.set_result(None)
            return
        if self._received.count(b"\n") < self._load.depth:
            return
        for line in self._received.splitlines():
            if not line.startswith(self._load.expected.encode()):
                self.done.set_exception(ValueError(f"a reply is not like {self._load.expected}: {line[:300]!r}"))
                return
        self._received = b""
        if self._turn == 0:
            now = time.perf_counter()
            self.latencies_ms.append((now - self._sent) * 1e3)
            if now > self._until():
                self.done.set_result(None)
                return
            if self._load.pause_ms:
                time.sleep(self._load.pause_ms / 1e3)
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server closed the connection"))


async def _opened(client_of: Callable[[], _Client], port: str) -> _Client:
    loop = asyncio.get_running_loop()
    if port.startswith("/"):
        _, client = await loop.create_unix_connection(client_of, port)
    else:
        tls = None
        if port.startswith(TLS):
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        _, client = await loop.create_connection(client_of, "127.0.0.1", int(port.removeprefix(TLS)), ssl=tls)
    await client.welcome
    return client


async def _run(load: Load, ports: Sequence[str], seconds: float) -> Figures:
    numbers = count()
    until = math.inf
    clients = [
        await _opened(lambda: _Client(load, numbers, lambda: until), ports[number % len(ports)])
        for number in range(load.connections)
    ]
    began = time.perf_counter()
    until = began + seconds
    for client in clients:
        client.send()
    await asyncio.gather(*(client.done for client in clients))
    took = time.perf_counter() - began
    latencies = sorted(latency for client in clients for latency in client.latencies_ms)
    return Figures(
        value=len(latencies) * load.depth / took,
        p50_ms=latencies[len(latencies) // 2],
        p99_ms=latencies[len(latencies) * 99 // 100],
        done=len(latencies) * load.depth,
    )


if __name__ == "__main__":
    where, connections, depth, seconds, pause_ms, events, _, first, expected, *templates = sys.argv[1:]
    load = Load(int(connections), int(depth), templates, expected, int(events), float(pause_ms), first)
    figures = uvloop.run(_run(load, where.split(","), float(seconds)))
    sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
