"""The servers that are measured, each in a process of its own on a free port of 127.0.0.1, and what they cost."""

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.cpu import Cpu, cpu_seconds, with_cpu
from tests.bench.load import SECONDS, WIDTHS, Load
from tests.bench.table import Figures
from tests.daemon import Connection
from ticketd.model import CAPACITY_MAX

READY = r"^ready listen=[^ ]*?:(\d+)[\s,]"
READY_SECONDS_MAX = 120.0
END_SECONDS_MAX = 60.0
REDIS = shutil.which("redis-server")
REDIS_BOOKED = '+{"reply":"booking"'
_REDIS_SCRIPT = Path(__file__).with_name("redis.lua")
_REDIS_SETTINGS = {
    "bind": "127.0.0.1",
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    # In its favour: it would write its log anew from time to time, beside what is measured.
    "auto-aof-rewrite-percentage": "0",
    "io-threads-do-reads": "yes",
}


class Server:
    """A server that has said that it is ready, until the end of the block. Its output is in a file."""

    def __init__(self, command: list[str], folder: Path, ready: str, port: int = 0, tree: Path | None = None) -> None:
        """Start it; ``ready`` is found in its output when it serves, with the port in a group unless it is given.

        With ``tree``, Python finds the modules of that checkout.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TICKETD_")}
        if tree:
            environment["PYTHONPATH"] = str(tree.absolute())
        log = folder / "output.log"
        began = time.perf_counter()
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # Where it runs, Python looks for modules first.
                cwd=folder if tree else None,
            )
        self.pid = self._process.pid
        try:
            found = self._wait(log, ready)
        except BaseException:
            self.kill()
            raise
        self.ready_seconds = time.perf_counter() - began
        self.port = port or int(found[1])

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def measure(self, load: Load, seconds: float = SECONDS) -> Figures:
        """Return how often a second it does what the load asks for, and what it computes for each."""
        return with_cpu(partial(load.measure, self.port, seconds=seconds), self.pid)

    def end(self) -> None:
        """End it in good order, as SIGTERM does."""
        self._process.terminate()
        assert self._process.wait(END_SECONDS_MAX) == 0

    def kill(self) -> None:
        """End it as kill -9 does, if it still runs."""
        self._process.kill()
        self._process.wait()

    def ask(self, line: str) -> dict[str, Any]:
        """Return the reply to a request, asked on a connection of its own."""
        with Connection(self.port) as connection:
            return connection.ask(line)

    @contextmanager
    def idle_connections(self, number: int) -> Iterator[None]:
        """Keep so many connections open, each of which has been answered once."""
        with ExitStack() as stack:
            for _ in range(number):
                connection = stack.enter_context(Connection(self.port))
                assert connection.ask('{"cmd":"ping"}')["reply"] == "pong"
            yield

    def _wait(self, log: Path, ready: str) -> re.Match[str]:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not (found := re.search(ready, log.read_text(), re.MULTILINE)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it does not become ready: {log.read_text()[-1000:]}")
            time.sleep(0.001)
        return found

    @property
    def resident_bytes(self) -> int:
        """How much of it is in memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def cpu_seconds(self) -> Cpu:
        """How long it has computed."""
        return cpu_seconds(self.pid)


def ticketd(folder: Path, *flags: str, tree: Path | None = None) -> Server:
    """Start a daemon on ``events.json`` in the folder, with a ledger there; that of another checkout if told so."""
    events = str((folder / "events.json").absolute())
    command = [sys.executable, "-m", "ticketd", "--port", "0", "--events", events, *flags]
    return Server(command, folder, READY, tree=tree)


def echo(folder: Path) -> Server:
    """Start what only echoes."""
    return Server([sys.executable, "-m", "tests.bench.echo"], folder, READY)


def redis(folder: Path, events: int, io_threads: int) -> tuple[Server, str]:
    """Start a Redis with so many events; return it and the template of a booking by script."""
    assert REDIS
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {**_REDIS_SETTINGS, "port": str(port), "dir": str(folder), "io-threads": str(io_threads)}
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    server = Server([REDIS, *flags], folder, "Ready to accept connections", port)
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as replies:
            state = ["available", str(CAPACITY_MAX), "sold", "0", "version", "0"]
            requests = [_resp("HSET", f"event:e{number:06d}", *state) for number in range(1, events + 1)]
            connection.sendall("".join([*requests, _resp("SCRIPT", "LOAD", _REDIS_SCRIPT.read_text())]).encode())
            for _ in requests:
                assert replies.readline() == b":3\r\n"
            assert replies.readline() == b"$40\r\n"
            script = replies.readline().decode().strip()
    except BaseException:
        server.kill()
        raise
    return server, _resp("EVALSHA", script, "2", "event:e{e}", "booking:{n}", "e{e}", "{n}", "1")


def _resp(*words: str) -> str:
    """Return a request as Redis reads it, with the lengths of what the load generator puts in."""

    def length(word: str) -> int:
        return len(word.encode()) + sum(word.count(mark) * (width - len(mark)) for mark, width in WIDTHS.items())

    return f"*{len(words)}\r\n" + "".join(f"${length(word)}\r\n{word}\r\n" for word in words)


def write_events(folder: Path, *available: int) -> None:
    """Write an events.json with events e000001, e000002 and so on, of which so many tickets are left."""
    events = [
        {
            "ID": f"e{number:06d}",
            "Name": f"Event {number}",
            "Date": "2027-03-01T20:00:00Z",
            "TotalTickets": CAPACITY_MAX,
            "AvailableTickets": left,
        }
        for number, left in enumerate(available, 1)
    ]
    (folder / "events.json").write_bytes(msgspec.json.encode({"events": events}))
