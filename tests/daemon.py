"""A real daemon in a process of its own, and raw connections to it: what the tests and the benchmark are made of."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from tests.forked import Forked

START_SECONDS_MAX = 30.0
END_SECONDS_MAX = 30.0
REPLY_SECONDS_MAX = 20.0
LAUNCHER = Path(__file__).with_name("handing_over.py")


class Daemon:
    """``ticketd``, or another module that prints a ready line, on a free port of 127.0.0.1. Its stderr is read.

    ``sockets`` are handed over to it as systemd does that. With these, or ``anew``, it does its imports itself.
    """

    def __init__(
        self,
        *arguments: str,
        module: str = "ticketd",
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        sockets: Sequence[socket.socket] = (),
        anew: bool = False,
    ) -> None:
        self.lines: list[str] = []
        self._all_read = False
        self._connections: list[Connection] = []
        self._news = threading.Condition()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TICKETD_")}
        environment |= env or {}
        read, write = os.pipe()
        self._stderr = os.fdopen(read)
        self.process: Forked | subprocess.Popen[bytes]
        if anew or sockets:
            handed = [each.fileno() for each in sockets]
            launcher = [sys.executable, "-IS", str(LAUNCHER), ",".join(map(str, handed))] if handed else []
            command = [*launcher, sys.executable, "-m", module, *arguments]
            self.process = subprocess.Popen(command, stderr=write, env=environment, cwd=cwd, pass_fds=handed)
        else:
            self.process = Forked(module, arguments, environment, {2: write}, cwd)
        os.close(write)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_ready(self) -> int:
        """Return the port, once the daemon says that it serves."""
        pattern = r"\bready listen=[^ ]*?:(\d+)(?:.* metrics=[^ ]*:(\d+))?"
        match = re.search(pattern, self.wait_line(pattern))
        assert match is not None
        self.port, self.metrics_port = int(match[1]), int(match[2] or 0)
        return self.port

    def wait_line(self, pattern: str) -> str:
        """Return the first line of stderr that the pattern is found in, waiting for it."""
        found = self._wait_for(pattern)
        assert found, f"no line like {pattern!r} in {self.lines[-5:]}"
        return found[0]

    def wait_line_after(self, seen: int, pattern: str) -> str:
        """The same, for the lines of stderr but the first ``seen`` of them."""
        found = self._wait_for(pattern, seen)
        assert found, f"no line like {pattern!r} in {self.lines[seen:]}"
        return found[0]

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status. Clients end their input when the daemon drains."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
            self._wait_for(r" draining ")
            # It would wait a little for those that do not.
            for connection in self._connections:
                with suppress(OSError):
                    connection.finish()
        return self.wait()

    def wait(self) -> int:
        """Return the exit status once the process has ended and its stderr is read."""
        status = self.process.wait(END_SECONDS_MAX)
        self._reader.join(END_SECONDS_MAX)
        return status

    def kill(self) -> None:
        """End it as kill -9 does, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    def connect(self, address: str = "") -> "Connection":
        """Open a raw connection, from an address of this machine such as 127.0.0.2."""
        self._connections.append(Connection(self.port, address))
        return self._connections[-1]

    def _wait_for(self, pattern: str, seen: int = 0) -> list[str]:
        """Return the lines of stderr that the pattern is found in, once there are some, or no more come."""
        found: list[str] = []

        def arrived() -> bool:
            found[:] = [line for line in self.lines[seen:] if re.search(pattern, line)]
            return bool(found) or self._all_read

        with self._news:
            self._news.wait_for(arrived, START_SECONDS_MAX)
        return found

    def _read(self) -> None:
        with self._stderr as stream:
            for line in stream:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._all_read = True
            self._news.notify_all()


@contextmanager
def running(folder: Path, *arguments: str, **more: Any) -> Iterator[Daemon]:
    """Run a daemon on ``events.json`` and ``events.db`` in the folder, until the end of the block."""
    daemon = Daemon("--port", "0", "--events", str(folder / "events.json"), *arguments, **more)
    try:
        daemon.wait_ready()
        yield daemon
    finally:
        daemon.kill()


class Connection:
    """A raw connection that speaks lines, as netcat would."""

    def __init__(self, port: int, address: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), REPLY_SECONDS_MAX, (address, 0))
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, which may be closed already."""
        self._file.close()
        self.socket.close()

    def reset(self) -> None:
        """Go without a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.socket.sendall(data)

    def read(self) -> dict[str, Any]:
        """Return the next reply."""
        line = self._file.readline()
        assert line.endswith(b"\n"), f"the connection ended with {line!r}"
        reply: dict[str, Any] = msgspec.json.decode(line)
        return reply

    def rest(self) -> bytes:
        """Return what comes until the daemon closes the connection."""
        return self._file.read()

    def ask(self, line: str | bytes) -> dict[str, Any]:
        """Send one line and return its reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\n")
        return self.read()

    def events(self) -> list[dict[str, Any]]:
        """Return all events, page by page."""
        page = self.ask("list")
        events: list[dict[str, Any]] = page["events"]
        while page.get("more"):
            page = self.ask(f"list --after {events[-1]['id']}")
            events += page["events"]
        return events

    def finish(self) -> None:
        """Tell the daemon that nothing more comes."""
        self.socket.shutdown(socket.SHUT_WR)


def unasked(reply: dict[str, Any]) -> str:
    """Return the code of an error that nobody asked for."""
    assert (reply["reply"], reply["unasked"]) == ("error", True), reply
    return str(reply["code"])


def until(condition: Callable[[], object]) -> None:
    """Wait for what cannot be awaited, such as a file that another process writes."""
    deadline = time.monotonic() + REPLY_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def write_events(folder: Path, *capacities: int, available: Sequence[int] | None = None) -> None:
    """Write an events.json with events "1", "2" and so on of these capacities."""
    events = [
        {
            "ID": str(number),
            "Name": f"Event {number}",
            "Date": f"2027-03-{number:02d}T20:00:00Z",
            "TotalTickets": capacity,
            "AvailableTickets": (available or capacities)[number - 1],
        }
        for number, capacity in enumerate(capacities, 1)
    ]
    (folder / "events.json").write_bytes(msgspec.json.encode({"events": events}))


def write_shipped_events(folder: Path) -> None:
    """Write the events.json of the repository, as it is before a daemon runs there."""
    events = [
        {
            "ID": str(number),
            "Name": f"Event {number}",
            "Date": f"2002-03-{10 + number}T00:00:00Z",
            "TotalTickets": 100 * number,
            "AvailableTickets": 50 * number,
        }
        for number in (1, 2, 3)
    ]
    (folder / "events.json").write_bytes(msgspec.json.encode({"events": events}))
