"""TLS: who speaks it, who does not, and who never gets that far. A real daemon, and servers whose clock runs fast."""

import asyncio
import os
import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.daemon import Daemon, running, unasked, write_events
from tests.secured import EC, RSA, over_tls, plain, tls_context
from tests.serving.conftest import Served, guarded_service, on_both_loops, serving, until
from ticketd.config import Limits
from ticketd.serving import tls
from ticketd.serving.strangers import STRANGER_SECONDS_MAX

# What TLS begins with: the first bytes of a record with a handshake.
HALF_A_GREETING = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("tls")
    write_events(folder, 1_000_000, 10)
    with running(folder, "--tls-certificate", str(EC)) as daemon:
        yield daemon


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_later_sell(daemon: Daemon, version: ssl.TLSVersion) -> None:
    context = tls_context(EC)
    context.minimum_version = context.maximum_version = version
    with over_tls(daemon, context) as connection:
        assert connection.ask("book 1 1")["state"] == "confirmed"
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]


def test_no_session_is_resumed(daemon: Daemon) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = tls_context(EC)
        context.maximum_version = version
        with over_tls(daemon, context) as connection:
            assert connection.ask("ping") == {"reply": "pong"}
            assert isinstance(connection.socket, ssl.SSLSocket)
            session = connection.socket.session
            assert session is None or not session.has_ticket


def test_older_versions_are_refused(daemon: Daemon) -> None:
    context = tls_context(EC)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        over_tls(daemon, context)
    with over_tls(daemon, tls_context(EC)) as connection:
        assert connection.ask("ping") == {"reply": "pong"}


def test_a_long_pipeline_is_answered_in_order(daemon: Daemon) -> None:
    with over_tls(daemon, tls_context(EC)) as connection:
        connection.send(b"book 1 1\n" * 2_000)
        versions = [connection.read()["version"] for _ in range(2_000)]
        assert versions == list(range(versions[0], versions[0] + 2_000))


def test_changes_are_streamed(daemon: Daemon) -> None:
    with over_tls(daemon, tls_context(EC)) as watcher, over_tls(daemon, tls_context(EC)) as seller:
        before = watcher.ask("watch 2")["available"]
        assert seller.ask("book 2 1")["available"] == before - 1
        assert watcher.read()["available"] == before - 1


# Those who do not speak TLS


@pytest.mark.parametrize(
    "data",
    [b"book 2 1\n", b"\n", b"POST / HTTP/1.1\r\n\r\nbook 2 1\n", b"book 2 1\n" * 20_000],
    ids=["a command", "a newline", "HTTP", "much"],
)
def test_a_plain_client_is_told_and_nothing_is_done(daemon: Daemon, data: bytes) -> None:
    with over_tls(daemon, tls_context(EC)) as connection:
        before = connection.ask("show 2")
        with plain(daemon) as other:
            other.send(data)
            refusal = other.read()
            assert refusal["code"] == "bad_frame"
            assert "--tls" in refusal["message"]
            other.finish()
            assert other.rest() == b""
        assert connection.ask("show 2") == before


def test_a_tls_client_on_a_plain_port_is_told(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        # A client of TLS waits for an answer to its greeting, and gets one at once.
        with pytest.raises(ssl.SSLError):
            over_tls(daemon)
        with plain(daemon) as connection:
            connection.send(HALF_A_GREETING)
            refusal = connection.read()
            assert refusal["code"] == "bad_frame"
            assert "does not speak TLS" in refusal["message"]
            assert connection.rest() == b""


def without_sales(daemon: Daemon) -> list[str]:
    # The sum of what an earlier test sold comes a second later.
    return [line for line in daemon.lines if " committed " not in line]


def test_whoever_leaves_leaves_no_line_in_the_log(daemon: Daemon) -> None:
    lines = without_sales(daemon)
    for data in (b"", b"\x16", HALF_A_GREETING, HALF_A_GREETING + b"nonsense" * 200):
        for go in ("close", "reset", "finish"):
            with plain(daemon) as connection:
                connection.send(data)
                getattr(connection, go)()
    for _ in range(3):
        connection = over_tls(daemon, tls_context(EC))
        assert connection.ask("ping") == {"reply": "pong"}
        assert isinstance(connection.socket, ssl.SSLSocket)
        # A goodbye of TLS, and then none at all.
        connection.socket.unwrap().close()
        over_tls(daemon, tls_context(EC)).reset()
    with over_tls(daemon, tls_context(EC)) as connection:
        assert connection.ask("ping") == {"reply": "pong"}
    assert without_sales(daemon) == lines


# Those who never get that far


def silent(daemon: Daemon, stack: ExitStack) -> None:
    """Leave connections that have begun nothing, and half of it."""
    for data in (b"", HALF_A_GREETING):
        stack.enter_context(plain(daemon)).send(data)


def test_a_drain_does_not_wait_for_those_who_say_nothing(tmp_path: Path) -> None:
    with running(tmp_path, "--tls-certificate", str(RSA)) as daemon, ExitStack() as stack:
        silent(daemon, stack)
        # What connected before it was accepted before it. It does not read what the daemon says at its end.
        idle = stack.enter_context(over_tls(daemon))
        assert idle.ask("ping") == {"reply": "pong"}
        assert daemon.end() == 0
        assert unasked(idle.read()) == "shutting_down"
        assert idle.rest() == b""
        assert not [line for line in daemon.lines if "cut off" in line or "Traceback" in line]


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(EC)
    return context


async def opened(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def buys(port: int) -> bool:
    """Buy a ticket over TLS, and return whether that worked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls_context(EC))
    writer.write(b"book 1 1\n")
    done = b'"confirmed"' in await reader.readline()
    writer.close()
    return done


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@on_both_loops
async def test_a_slow_handshake_ends_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "STRANGER_SECONDS_MAX", 0.2)
    async with serving(tmp_path, tls=server_context()) as served:
        assert await buys(served.port)
        await until(lambda: not served.server._tasks)
        before = descriptors()
        slow = [await opened(served.port, data) for data in (b"", b"\x16", HALF_A_GREETING, b"\x16nonsense\n" * 99)]
        assert await buys(served.port)
        for reader, writer in slow:
            # It may be told in TLS what is wrong. Unread input makes it a reset.
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()
        await until(lambda: not served.server._tasks)
        await until(lambda: descriptors() <= before)
        assert await buys(served.port)


def are_greeted(served: Served, connections: int) -> bool:
    return len(served.server._greetings) == connections


@on_both_loops
async def test_the_oldest_who_says_nothing_makes_room(tmp_path: Path) -> None:
    limits = Limits(connections_max=40)
    async with serving(tmp_path, limits, tls=server_context()) as served:
        silent = []
        for number in range(12):
            silent.append(await opened(served.port, HALF_A_GREETING if number % 2 else b""))
            await until(partial(are_greeted, served, min(number + 1, 4)))
        # No more than a tenth have stayed, and whoever begins at once gets in.
        assert await buys(served.port)
        for reader, _ in silent[:8]:
            assert await reader.read() == b""
        for _, writer in silent:
            writer.close()
        await until(lambda: not served.server._tasks)
        assert len(served.server._greetings) == 0


@on_both_loops
async def test_the_time_of_a_stranger_begins_before_tls_does(tmp_path: Path) -> None:
    async with serving(tmp_path, make=guarded_service, tls=server_context()) as served:
        slow = socket.create_connection(("127.0.0.1", served.port))
        await until(partial(are_greeted, served, 1))
        accepted_before = asyncio.get_running_loop().time()
        _, writer = await asyncio.open_connection(sock=slow, ssl=tls_context(EC), server_hostname="localhost")
        await until(lambda: len(served.service.strangers) == 1)
        [stranger] = served.server._served
        assert stranger._identity.known_by <= accepted_before + STRANGER_SECONDS_MAX
        writer.close()


@on_both_loops
async def test_a_greeting_that_is_ended_late_harms_nobody(tmp_path: Path) -> None:
    """Handshakes are ended at every moment, by newer ones, while others buy."""
    limits = Limits(connections_max=10)
    async with serving(tmp_path, limits, tls=server_context()) as served:

        async def storm() -> int:
            bought = 0
            for _ in range(20):
                # It fails if another one came.
                with suppress(OSError):
                    bought += await buys(served.port)
            return bought

        bought = sum(await asyncio.gather(*[storm() for _ in range(4)]))
        assert await buys(served.port)
        assert served.sold() == bought + 1
        await until(lambda: not served.server._tasks)
