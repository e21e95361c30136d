"""The connections that wait for a place, descriptors that run out, and the drain. A real daemon."""

import os
import resource
import signal
import socket
import struct
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
import pytest

from tests.daemon import Connection, Daemon, running, unasked, until, write_events
from tests.secured import RSA, over_tls, plain, write_access
from ticketd.serving.server import DESCRIPTORS_RESERVED

PIPELINED = 1_000


# The door


def test_connections_over_the_limit_wait_and_then_are_refused(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--connections-max", "1", "--connections-waiting-max", "1") as daemon,
        daemon.connect() as served,
    ):
        assert served.ask("ping") == {"reply": "pong"}
        with daemon.connect() as waiting:
            waiting.send(b"ping\n")
            until(lambda: served.ask("stats")["connections_waiting"] == 1)
            with daemon.connect() as too_many:
                refusal = too_many.read()
                assert (unasked(refusal), refusal["retry_after"]) == ("too_many_connections", 1)
                assert too_many.rest() == b""
            served.close()
            assert waiting.read() == {"reply": "pong"}


def test_no_connection_waits_for_ever_to_be_served(tmp_path: Path) -> None:
    flags = ("--connections-max", "1", "--connections-waiting-seconds-max", "0.2")
    with running(tmp_path, *flags) as daemon, daemon.connect() as served, daemon.connect() as waiting:
        assert served.ask("ping") == {"reply": "pong"}
        assert unasked(waiting.read()) == "too_many_connections"


def test_waiting_connections_that_are_reset_free_their_places(tmp_path: Path) -> None:
    with running(tmp_path, "--connections-max", "4") as daemon:
        served = [daemon.connect() for _ in range(4)]
        for connection in served:
            assert connection.ask("ping") == {"reply": "pong"}
        for _ in range(40):
            with daemon.connect() as hasty:
                hasty.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for connection in served:
            connection.close()
        together = [daemon.connect() for _ in range(4)]
        for connection in together:
            assert connection.ask("ping") == {"reply": "pong"}
        for connection in together:
            connection.close()
        assert daemon.end() == 0
        assert not [line for line in daemon.lines if "bug" in line or "Traceback" in line]


# Descriptors


def served(connections: list[Connection]) -> int:
    """Return how many are answered; the others are closed."""
    answered = 0
    for connection in connections:
        # Whoever is closed at once may be reset in the middle of asking.
        with suppress(AssertionError, ConnectionError):
            answered += connection.ask("ping") == {"reply": "pong"}
    return answered


def cpu_seconds(daemon: Daemon) -> float:
    status = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(status[11]) + int(status[12])) / os.sysconf("SC_CLK_TCK")


def limit_descriptors(daemon: Daemon, most: int) -> None:
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (most, hard))


def test_open_connections_are_served_when_descriptors_run_out(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon, daemon.connect() as inside, ExitStack() as stack:
        assert inside.ask("ping") == {"reply": "pong"}
        limit_descriptors(daemon, DESCRIPTORS_RESERVED + 10)
        crowd = [stack.enter_context(daemon.connect()) for _ in range(30)]
        assert served(crowd) == 9
        assert inside.ask("book 1 1")["state"] == "confirmed"
        stack.close()
        until(lambda: inside.ask("stats")["connections"] == 1)
        with daemon.connect() as later:
            assert later.ask("ping") == {"reply": "pong"}
        daemon.wait_line("open files are limited to 42")
        assert len([line for line in daemon.lines if "open files are limited to 42" in line]) == 1
        # The events file could be written all the time.
        assert not [line for line in daemon.lines if "not kept up to date" in line]


@pytest.mark.parametrize("tls", [(), ("--tls-certificate", str(RSA))], ids=["plain", "TLS"])
def test_strangers_make_room_when_descriptors_run_out(tmp_path: Path, tls: tuple[str, ...]) -> None:
    write_events(tmp_path, 100)
    access = write_access(tmp_path / "access.json")
    # A hundred of them may be strangers: more than there are descriptors.
    with running(tmp_path, "--access", access, "--connections-max", "1000", *tls) as daemon, ExitStack() as stack:
        connect = over_tls if tls else plain
        inside = stack.enter_context(connect(daemon))
        assert inside.auth("seller")["reply"] == "welcome"
        limit_descriptors(daemon, DESCRIPTORS_RESERVED + 10)
        for _ in range(30):
            stack.enter_context(plain(daemon))
        with connect(daemon) as seller:
            assert seller.auth("seller")["reply"] == "welcome"
            assert seller.ask("book 1 1")["state"] == "confirmed"
        assert inside.ask("book 1 1")["state"] == "confirmed"
        assert not [line for line in daemon.lines if "cannot accept" in line or "Traceback" in line]


def test_a_daemon_without_descriptors_does_not_spin_and_recovers(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path, "--idle-seconds-max", "1") as daemon, daemon.connect() as inside:
        assert inside.ask("ping") == {"reply": "pong"}
        limit_descriptors(daemon, len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())))
        with ExitStack() as stack:
            assert served([stack.enter_context(daemon.connect()) for _ in range(30)]) == 0
        began, cpu_began = inside.ask("stats")["uptime_seconds"], cpu_seconds(daemon)
        with ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(daemon.connect())
            assert unasked(inside.read()) == "idle_timeout"
            cpu = cpu_seconds(daemon) - cpu_began
        limit_descriptors(daemon, 1_024)
        with daemon.connect() as later:
            assert cpu < (later.ask("stats")["uptime_seconds"] - began) / 2
            assert later.ask("book 1 1")["state"] == "confirmed"


# The drain


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_events_file_and_exits_with_status_0(tmp_path: Path, signum: signal.Signals) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon, daemon.connect() as buyer, daemon.connect() as idle:
        assert idle.ask("ping") == {"reply": "pong"}
        assert buyer.ask("book 1 3")["available"] == 97
        assert daemon.end(signum) == 0
        assert unasked(idle.read()) == "shutting_down"
        assert idle.rest() == b""
    catalogue = msgspec.json.decode((tmp_path / "events.json").read_bytes())
    assert catalogue["events"][0]["AvailableTickets"] == 97


def test_a_second_signal_ends_the_daemon_at_once(tmp_path: Path) -> None:
    # A client that reads nothing keeps the drain waiting.
    write_events(tmp_path, *[100] * 28)
    with running(tmp_path, "--write-seconds-max", "60", "--drain-seconds-max", "60") as daemon:
        connection = daemon.connect()
        connection.send(b"list\n" * PIPELINED)
        with daemon.connect() as other:
            until(lambda: other.ask("stats")["requests"] > 100)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_line("draining")
        assert daemon.end(signal.SIGTERM) == 128 + signal.SIGTERM
        connection.close()


def test_nothing_is_accepted_while_draining(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        port = daemon.port
        daemon.end()
        with pytest.raises(ConnectionRefusedError):
            Connection(port)
