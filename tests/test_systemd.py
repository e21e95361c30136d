"""What systemd is told of a daemon, and the sockets that it hands over: a restart refuses no connection."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.conftest import SECONDS_MAX
from tests.daemon import Daemon, running, until, write_events
from tests.faults.daemon import Machine
from tests.secured import RSA, Reached, over_tls, over_unix, plain, short_folder
from tests.serving.conftest import until as until_async
from ticketd.config import STATUS_CANNOT_LISTEN

BUYERS = 40
BOOKINGS = 10


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A socket as systemd opens it."""
    with socket.create_server((host, 0), backlog=1_024) as each:
        yield each


class Buyer:
    """Books again and again, also when the connection ends, until it has got all of its bookings."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._port = port
        self.bought: list[str] = []

    async def run(self) -> None:
        while len(self.bought) < BOOKINGS:
            # A connection that is refused fails the test.
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await self._buy(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.close()

    async def _buy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(self.bought) < BOOKINGS:
            booking = f"{self._name}-{len(self.bought)}"
            writer.write(f"book 1 1 --booking {booking}\n".encode())
            line = await reader.readline()
            if not line.endswith(b"\n"):
                return
            reply = msgspec.json.decode(line)
            if reply["reply"] == "booking":
                self.bought.append(booking)
                # So that the daemon ends in the midst of them.
                await asyncio.sleep(0.02)
            else:
                assert reply["code"] == "shutting_down", reply


async def test_a_restart_under_load_refuses_no_connection_and_loses_nothing(tmp_path: Path) -> None:
    write_events(tmp_path, 1_000)
    with listening() as handed:
        buyers = [Buyer(f"b{number}", handed.getsockname()[1]) for number in range(BUYERS)]
        with running(tmp_path, sockets=[handed]) as daemon:
            assert daemon.port == handed.getsockname()[1]
            buying = asyncio.gather(*(buyer.run() for buyer in buyers))
            await until_async(lambda: all(buyer.bought for buyer in buyers))
            assert await asyncio.to_thread(daemon.end) == 0
            assert any(len(buyer.bought) < BOOKINGS for buyer in buyers), "they were done before the restart"
        with running(tmp_path, sockets=[handed]) as daemon:
            async with asyncio.timeout(SECONDS_MAX):
                await buying
            with daemon.connect() as connection:
                assert connection.ask("show 1")["sold"] == BUYERS * BOOKINGS


def _flags(folder: Path) -> Sequence[str]:
    return ("--events", str(folder / "events.json"))


def test_streams_of_all_kinds_may_be_handed_over(tmp_path: Path) -> None:
    with listening() as tcp, short_folder() as folder, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
        unix.listen()
        # The address of the options is not used.
        flags = ("--tls-certificate", str(RSA), "--host", "192.0.2.1")
        with running(tmp_path, *flags, sockets=[tcp, unix]) as daemon:
            assert daemon.wait_line("ready").startswith(
                f"ready listen=127.0.0.1:{daemon.port},unix:{folder / 'socket'} "
            )
            assert any("--host and --port are ignored" in line for line in daemon.lines)
            for connection in (over_tls(daemon), over_unix(folder / "socket")):
                with connection:
                    assert connection.ask("ping") == {"reply": "pong"}


@pytest.mark.parametrize(("flags", "reached"), [((), plain), (("--tls-certificate", str(RSA)), over_tls)])
def test_on_a_socket_for_both_each_address_of_ipv4_is_one_client(
    tmp_path: Path, flags: Sequence[str], reached: Callable[..., Reached]
) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as handed:
        limits = ("--open-to-the-network", "--connections-per-address-max", "1")
        with (
            running(tmp_path, *flags, *limits, sockets=[handed]) as daemon,
            reached(daemon, address="127.0.0.2") as one,
            reached(daemon, address="127.0.0.3") as other,
        ):
            assert one.ask("ping") == other.ask("ping") == {"reply": "pong"}
            with reached(daemon, address="127.0.0.2") as again:
                assert again.read()["code"] == "too_many_connections"


def refused(folder: Path, handed: socket.socket) -> str:
    daemon = Daemon(*_flags(folder), sockets=[handed])
    assert daemon.wait() == STATUS_CANNOT_LISTEN
    assert not list(folder.iterdir())
    return daemon.lines[-1]


def test_what_others_reach_is_guarded_also_if_it_is_handed_over(tmp_path: Path) -> None:
    with listening("0.0.0.0") as handed:
        said = refused(tmp_path, handed)
        assert said.startswith(f"ticketd: whoever reaches 0.0.0.0:{handed.getsockname()[1]} could sell, ")
        assert "--open-to-the-network" in said


def test_a_socket_without_streams_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handed:
        assert refused(tmp_path, handed).endswith("systemd needs ListenStream=")


def test_a_number_of_sockets_that_is_none_is_refused(tmp_path: Path) -> None:
    command = 'LISTEN_PID=$$ LISTEN_FDS=x exec "$@"'
    daemon = [sys.executable, "-m", "ticketd", "--port", "0", *_flags(tmp_path)]
    done = subprocess.run(
        ["/bin/sh", "-c", command, "sh", *daemon], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert done.returncode == STATUS_CANNOT_LISTEN
    assert done.stderr == 'ticketd: cannot listen: LISTEN_FDS must be a number of sockets, not "x"\n'
    assert not list(tmp_path.iterdir())


def test_sockets_for_another_process_are_left_alone(tmp_path: Path) -> None:
    with running(tmp_path, env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}) as daemon, daemon.connect() as connection:
        assert connection.ask("ping") == {"reply": "pong"}


@contextmanager
def manager(*, abstract: bool = False) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A socket to which a daemon tells how it is, and the variables that tell it so."""
    with short_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        path = str(folder / "notify")
        told.bind(f"\0{path}" if abstract else path)
        told.settimeout(SECONDS_MAX)
        yield told, {"NOTIFY_SOCKET": f"@{path}" if abstract else path}


def heard(told: socket.socket, wanted: str) -> list[str]:
    """Return what is told up to this, which it begins with."""
    messages: list[str] = []
    while not messages or not messages[-1].startswith(wanted):
        messages.append(told.recv(4_096).decode())
    return messages


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_when_it_is_ready_lives_and_stops(tmp_path: Path, abstract: bool) -> None:
    with manager(abstract=abstract) as (told, env), running(tmp_path, env={**env, "WATCHDOG_USEC": "200000"}) as daemon:
        before = heard(told, "READY=1\n")
        assert before[0] == "EXTEND_TIMEOUT_USEC=15000000\nSTATUS=opening the ledger"
        assert before[-1] == f"READY=1\nSTATUS=selling on 127.0.0.1:{daemon.port}"
        for _ in range(3):
            assert heard(told, "WATCHDOG=1")[-1] == "WATCHDOG=1"
        daemon.process.send_signal(signal.SIGTERM)
        assert heard(told, "STOPPING=1")[-1] == "STOPPING=1\nEXTEND_TIMEOUT_USEC=11000000"
        assert daemon.wait() == 0


def test_it_is_not_ready_while_it_opens_its_ledger(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with manager() as (told, env):
        with machine.syncs_stall():
            daemon = Daemon(*("--port", "0", *_flags(tmp_path)), module=machine.module, env={**machine.env, **env})
            # The loop waits for the disk, and it asks for more time all the same.
            until(machine.stalled)
            assert heard(told, "EXTEND_TIMEOUT_USEC=")
            told.setblocking(False)
            with pytest.raises(BlockingIOError):
                told.recv(4_096)
            told.settimeout(SECONDS_MAX)
        try:
            assert heard(told, "READY=1")
        finally:
            daemon.kill()


def test_a_watchdog_for_another_process_is_not_fed(tmp_path: Path) -> None:
    with manager() as (told, env):
        with running(tmp_path, env={**env, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}) as daemon:
            assert daemon.end() == 0
        assert "WATCHDOG=1" not in heard(told, "STOPPING=1")
