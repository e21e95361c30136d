"""ticketctl as people run it, in a process of its own, and the daemons it meets: real ones, and liars."""

import gc
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pexpect
import pytest
from hypothesis import settings

from tests import forked
from tests.daemon import Daemon, running, write_events

# This import also puts SQLite's way to its files in place, before the first ledger is opened.
from tests.faults.disk import RealDisk, plugged
from tests.postgres import Postgres, Server

SECONDS_MAX = 60.0
TERMINAL_SIZE = (40, 200)


def pytest_configure(config: pytest.Config) -> None:
    # Examples take longer on a busy machine.
    settings.register_profile("any", deadline=None, max_examples=1_000)
    # A run that decides about a change must decide the same when it is repeated.
    settings.register_profile("same", deadline=None, max_examples=100, derandomize=True)
    settings.load_profile("same" if config.getoption("--hypothesis-seed") is None else "any")


def pytest_collection_finish() -> None:
    # Thousands of tests stay until the end; without this, the garbage collector looks at them again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of all chance: 0, or that of ``--hypothesis-seed``."""
    given = pytestconfig.getoption("--hypothesis-seed")
    return random.randrange(1 << 31) if given == "random" else int(given or 0)


@pytest.fixture
def chance(seed: int) -> random.Random:
    """Chance by a seed that a failing test shows."""
    print("seed", seed)
    return random.Random(seed)


@pytest.fixture
def disk() -> Iterator[RealDisk]:
    """A disk that can fail and hang."""
    disk = RealDisk()
    with plugged(disk):
        yield disk
        disk.sync_may_end.set()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for all tests of a file, with three events."""
    folder = tmp_path_factory.mktemp("daemon")
    write_events(folder, 100, 200, 300)
    with running(folder) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def bundled_postgres() -> Iterator[Postgres]:
    """A PostgreSQL of the run's own, that a test may stop if it starts it again."""
    with Postgres() as postgres:
        yield postgres


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The PostgreSQL that TICKETD_TEST_POSTGRES names, or else the run's own."""
    if url := os.environ.get("TICKETD_TEST_POSTGRES"):
        server = Server(url)
        yield server
        server.drop_spare()
    else:
        yield request.getfixturevalue("bundled_postgres")


@pytest.fixture
def database(postgres: Server) -> Iterator[str]:
    """The URL of an empty database."""
    url = postgres.new_database()
    yield url
    postgres.give_back(url)


def environment(**more: str) -> dict[str, str]:
    """The environment of a person in UTC who has set nothing about ticketd, and whose system speaks UTF-8."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("TICKETD_")}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        theirs.pop(name, None)
    return {**theirs, "PYTHONUTF8": "1", "TZ": "UTC", **more}


def arguments(words: tuple[str, ...], port: int | None) -> list[str]:
    return [*words] if port is None else ["--port", str(port), *words]


def command_line(words: tuple[str, ...], port: int | None) -> list[str]:
    return [sys.executable, "-m", "ticketctl", *arguments(words, port)]


def ctl(
    *words: str, port: int | None = None, stdin: str | bytes = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ticketctl to its end."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    return forked.run("ticketctl", arguments(words, port), environment(**(env or {})), SECONDS_MAX, data)


def start_ctl(*words: str, port: int) -> subprocess.Popen[str]:
    """Start ticketctl, so that it can be interrupted."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what runs in its background so, and children inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        command_line(words, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(),
    )


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Do what Ctrl-C does; return the exit status, and what stood on stdout and stderr."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, out, err


@contextmanager
def terminal(
    *words: str, port: int, env: dict[str, str] | None = None, size: tuple[int, int] = TERMINAL_SIZE
) -> Iterator[Any]:
    """Run ticketctl on a terminal of its own with so many rows and columns, that does not tell where its cursor is."""
    program, *arguments = command_line(words, port)
    child = pexpect.spawn(
        program,
        arguments,
        env=environment(**{"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **(env or {})}),
        dimensions=size,
        encoding="utf-8",
        timeout=SECONDS_MAX,
    )
    try:
        yield child
    finally:
        child.close(force=True)


def ended(child: Any) -> tuple[int, str]:
    """Return the exit status of what runs on a terminal, once it ends, and what it had shown."""
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus, child.before.replace("\r\n", "\n")


SILENCE = None
BREAK = b""
FLOOD = b"x"
ENDLESS = b"x" * 65_536


class Liar:
    """Listens as a daemon would, and gives to the lines it reads these answers, one after the other.

    ``SILENCE`` says nothing until the client goes; ``FLOOD``, and in large pieces ``ENDLESS``, talk until then without
    ending a line. ``BREAK``, and whatever follows the last answer, closes.
    """

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = list(answers)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._over = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def asked(self) -> Any:
        """Return the next line that was read, waiting for it."""
        return msgspec.json.decode(self._lines.get(timeout=SECONDS_MAX))

    def asked_more(self) -> bool:
        """Whether there are lines that ``asked`` has not returned."""
        return not self._lines.empty()

    def close(self) -> None:
        self._over = True
        # It may have seen that already, and listen no more.
        with suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(SECONDS_MAX)

    def _serve(self) -> None:
        with self._listener:
            while not self._over:
                connection, _ = self._listener.accept()
                with connection:
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(SECONDS_MAX)
        # A client that is interrupted leaves without a goodbye.
        with suppress(ConnectionError), connection.makefile("rb") as lines:
            for line in lines:
                self._lines.put(line)
                answer = self._answers.pop(0) if self._answers else BREAK
                if answer == BREAK:
                    return
                while answer in (FLOOD, ENDLESS):
                    connection.sendall(answer)
                if answer is not None:
                    connection.sendall(answer)


@contextmanager
def lying(*answers: bytes | None) -> Iterator[Liar]:
    """Run a server that gives these answers, until the end of the block."""
    liar = Liar(*answers)
    try:
        yield liar
    finally:
        liar.close()


@contextmanager
def nobody() -> Iterator[int]:
    """A port where connections are refused and nobody can begin to listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def answer(reply: str, **fields: object) -> bytes:
    """Return a line that a daemon could have sent."""
    return msgspec.json.encode({"reply": reply, **fields}) + b"\n"


def booked(booking: str = "b", event: str = "1", quantity: int = 1, state: str = "confirmed", **more: object) -> bytes:
    """Return the reply to a booking."""
    tickets = [] if state == "held" else [f"t{number}" for number in range(quantity)]
    return answer(
        "booking",
        id=booking,
        event=event,
        quantity=quantity,
        state=state,
        tickets=tickets,
        available=9,
        version=1,
        booked_at="2026-11-23T00:30:00.123Z",
        **more,
    )
