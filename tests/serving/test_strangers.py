"""Whoever has not said who they are: how long they stay, how many, and whom they keep out. A real daemon."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, running, unasked, write_events
from tests.faults.disk import RealDisk
from tests.secured import RSA, over_tls, over_unix, plain, secret, write_access
from tests.serving.conftest import access_list, guarded_service, on_both_loops, serving, until
from ticketd.config import Limits
from ticketd.serving import identity, stream

ATTACKER, OTHER = "127.0.0.2", "127.0.0.3"
# Four of them may be strangers.
CONNECTIONS_MAX = 40


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("strangers")
    write_events(folder, 1_000)
    flags = ("--access", write_access(folder / "access.json"), "--plain-tokens")
    with running(folder, *flags, "--connections-max", str(CONNECTIONS_MAX)) as daemon:
        yield daemon


def test_strangers_who_say_nothing_keep_nobody_out(daemon: Daemon) -> None:
    with ExitStack() as stack:
        known = stack.enter_context(plain(daemon))
        known.auth("seller")
        silent = [stack.enter_context(plain(daemon, ATTACKER)) for _ in range(9)]
        for _ in range(10):
            with plain(daemon, OTHER) as seller:
                assert seller.auth("seller")["reply"] == "welcome"
                assert seller.ask("book 1 1")["state"] == "confirmed"
        assert known.ask("book 1 1")["state"] == "confirmed"
        # Of the attacker, all but three had to go, the oldest first, and were told why.
        for connection in silent[:6]:
            refusal = connection.read()
            assert (unasked(refusal), refusal["retry_after"]) == ("too_many_connections", 1)
            assert connection.rest() == b""
        # The others can still say who they are.
        assert silent[6].auth("reader")["reply"] == "welcome"
    assert not [line for line in daemon.lines if "Traceback" in line or "never retrieved" in line]


def test_what_a_stranger_asks_is_answered_by_one_error(daemon: Daemon) -> None:
    for line in (b"list\n", b"book 1 1\n" * 100, b"{}\n", b"x" * 2_000, b"auth " + b"x" * 43 + b"\nlist\n"):
        with plain(daemon) as connection:
            connection.send(line)
            assert connection.read()["reply"] == "error"
            assert connection.rest() == b""


# What other programs send, with a token and a booking in it.
FOREIGN = {
    "HTTP": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP, mixed case": b"pAtCh  /x hTTp/1.0\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\n",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"r" * 32 + b"\n",
    "SMTP": b"EHLO x\r\nAUTH PLAIN AHgAeA==\r\n",
    "SMTP, no EHLO": b"AUTH PLAIN AHgAeA==\r\n",
    "Redis": b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n",
    "Redis inline": b"AUTH secret\r\n",
}


@pytest.fixture(scope="module", params=["strangers", "everybody"])
def any_daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for those who have tokens, and one for everybody."""
    folder = tmp_path_factory.mktemp(request.param)
    write_events(folder, 1_000)
    flags = ("--access", write_access(folder / "access.json")) if request.param == "strangers" else ()
    with running(folder, *flags) as daemon:
        yield daemon


@pytest.mark.parametrize("in_packets", [False, True], ids=["whole", "in packets"])
@pytest.mark.parametrize("data", FOREIGN.values(), ids=list(FOREIGN))
def test_other_protocols_get_one_error_and_do_nothing(any_daemon: Daemon, data: bytes, in_packets: bool) -> None:
    rest = f"auth {secret('admin')}\nbook 1 1\n".encode()
    with plain(any_daemon) as connection:
        if in_packets:
            for byte in data.partition(b"\n")[0]:
                connection.send(bytes([byte]))
            connection.send(b"\n" + data.partition(b"\n")[2] + rest)
        else:
            connection.send(data + rest)
        assert connection.read()["code"] == "bad_frame"
        assert connection.rest() == b""
    with plain(any_daemon) as connection:
        connection.auth("admin")
        assert connection.ask("show 1")["sold"] == 0


# Tokens that others can read


@pytest.mark.parametrize(
    ("flags", "welcome"),
    [((), False), (("--plain-tokens",), True), (("--tls-certificate", str(RSA)), True)],
    ids=["plain", "allowed", "TLS"],
)
def test_a_token_goes_over_networks_in_tls_only(tmp_path: Path, flags: tuple[str, ...], welcome: bool) -> None:
    file = write_access(tmp_path / "access.json", anonymous="reader")
    with running(tmp_path, "--access", file, *flags) as daemon:
        connect = over_tls if "--tls-certificate" in flags else plain
        # This is no address of whom the daemon knows that nobody else can read it.
        with connect(daemon, address=OTHER) as connection:
            reply = connection.auth("admin")
            assert (reply["reply"] == "welcome") == welcome
            if not welcome:
                assert "not encrypted" in reply["message"]
            assert connection.ask("list")["reply"] == "events"
        with connect(daemon) as connection:
            assert connection.auth("admin")["reply"] == "welcome"


def test_wrong_tokens_make_nobody_wait_who_has_a_right_one(tmp_path: Path, short_path: Path) -> None:
    file = write_access(tmp_path / "access.json", anonymous="reader")
    with running(tmp_path, "--access", file, "--unix", str(short_path)) as daemon:
        with plain(daemon) as guesser:
            codes = [guesser.auth(f"guess-{number}")["code"] for number in range(40)]
            assert set(codes) == {"unauthorized", "busy"}
            assert codes[:10] == ["unauthorized"] * 10
            # Nobody waits with the right one.
            assert guesser.auth("reader")["reply"] == "welcome"
        with over_unix(short_path) as user:
            assert user.auth("seller")["reply"] == "welcome"


def test_no_secret_is_ever_repeated(tmp_path: Path) -> None:
    with running(tmp_path, "--access", write_access(tmp_path / "access.json"), "--log-level", "debug") as daemon:
        for said in (
            "auth {}",
            "auth {} now",
            "auth now {}",
            "auth {}!",
            "auth --token {}",
            '{{"cmd":"auth","token":"{}","x":1}}',
            '{{"cmd":"auth","token":["{}"]}}',
            '{{"cmd":"auth","token":"{}!"}}',
        ):
            for name in ("admin", "nobody"):
                with plain(daemon) as connection:
                    reply = connection.ask(said.format(secret(name)))
                    assert secret(name) not in str(reply)
        assert not [line for line in daemon.lines if "-----" in line]


# Time


@pytest.mark.parametrize("data", [b"", b"au", b"\n\n \n"], ids=["nothing", "half a line", "blank lines"])
@on_both_loops
async def test_who_does_not_say_who_they_are_is_ended(tmp_path: Path, monkeypatch: Any, data: bytes) -> None:
    monkeypatch.setattr(identity, "STRANGER_SECONDS_MAX", 0.1)
    async with serving(tmp_path, make=guarded_service) as served:
        stranger, seller = await served.connect(), await served.connect()
        assert (await seller.ask(f"auth {secret('seller')}"))["reply"] == "welcome"
        stranger.send(data)
        refusal = await stranger.read()
        assert unasked(refusal) == "idle_timeout"
        assert "say who you are within 0.1 s" in refusal["message"]
        assert await stranger.rest() == b""
        # Who did say so stays.
        assert (await seller.ask("book 1 1"))["state"] == "confirmed"
        await until(lambda: len(served.service.strangers) == 0)


@on_both_loops
async def test_whoever_was_refused_keeps_no_place_from_others(tmp_path: Path, monkeypatch: Any) -> None:
    # They do not go by themselves, and the daemon would read on for long.
    monkeypatch.setattr(stream, "LINGER_SECONDS_MAX", 60.0)
    limits = Limits(
        connections_max=10, connections_per_address_max=100, loopback_places=0, connections_waiting_seconds_max=1.0
    )
    async with serving(tmp_path, limits, make=guarded_service) as served:
        for line in (b"x\n", b"help\n", b"list\n", b"\x16\x03\x01") * 4:
            refused = await served.connect()
            refused.send(line)
            assert (await refused.read())["reply"] in ("error", "help")
        seller = await served.connect()
        assert (await seller.ask(f"auth {secret('seller')}"))["reply"] == "welcome"
        # The last of them had to make room for the seller.
        await until(lambda: served.service.connections == 1)


@on_both_loops
async def test_those_who_may_read_without_a_token_keep_nobody_out(tmp_path: Path) -> None:
    limits = Limits(
        connections_max=10, connections_per_address_max=100, loopback_places=0, connections_waiting_seconds_max=1.0
    )
    async with serving(tmp_path, limits, make=partial(guarded_service, anonymous="reader")) as served:
        anonymous = []
        for _ in range(12):
            anonymous.append(await served.connect())
            assert (await anonymous[-1].ask("list"))["reply"] == "events"
        seller = await served.connect()
        assert (await seller.ask(f"auth {secret('seller')}"))["reply"] == "welcome"
        # Half of the places are for them. The oldest had to go.
        await until(lambda: served.service.connections <= 6)
        first = (await anonymous[0].rest()).splitlines()
        assert b'"too_many_connections"' in first[-1]
        assert (await anonymous[-1].ask("list"))["reply"] == "events"
        assert (await seller.ask("book 1 1"))["state"] == "confirmed"


@on_both_loops
async def test_what_somebody_without_a_token_has_bought_is_answered(tmp_path: Path, disk: RealDisk) -> None:
    limits = Limits(connections_max=2, connections_waiting_seconds_max=1.0)
    async with serving(tmp_path, limits, make=partial(guarded_service, anonymous="seller")) as served:
        buyer = await served.connect()
        disk.sync_may_end.clear()
        buyer.send(b"book 1 1\n" * 200)
        await until(lambda: served.service.requests)
        other = await served.connect()
        await until(lambda: len(served.service.anonymous) == 1 and served.service.connections == 2)
        assert (await other.ask("show 1"))["sold"] == 0
        disk.sync_may_end.set()
        *done, last = (await buyer.rest()).splitlines()
        assert b'"too_many_connections"' in last
        assert done
        assert (await other.ask("show 1"))["sold"] == len(done)


@on_both_loops
async def test_a_stranger_who_is_given_a_role_may_stay(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(identity, "STRANGER_SECONDS_MAX", 0.2)
    async with serving(tmp_path, make=guarded_service) as served:
        reader = await served.connect()
        await until(lambda: len(served.service.strangers) == 1)
        assert served.service.access
        served.service.access.replace(access_list("reader"), {})
        served.server.recheck()
        served.service.access.replace(access_list(), {})
        # Whoever comes later is ended later.
        stranger = await served.connect()
        assert (await stranger.read())["code"] == "idle_timeout"
        assert (await reader.ask("list"))["reply"] == "events"


@on_both_loops
async def test_strangers_who_leave_are_not_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, make=guarded_service) as served:
        leaving = [await served.connect() for _ in range(12)]
        await until(lambda: len(served.service.strangers) == 12)
        for number, client in enumerate(leaving):
            if number % 3 == 0:
                client.reset()
            elif number % 3 == 1:
                client.finish()
            else:
                client.send(b"ping\n")
        await until(lambda: len(served.service.strangers) == 0)


def test_requests_after_a_half_close_are_still_answered(daemon: Daemon) -> None:
    with plain(daemon) as connection:
        connection.send(f"auth {secret('seller')}\nbook 1 1\nbook 1 1\n".encode())
        connection.finish()
        assert [connection.read()["reply"] for _ in range(3)] == ["welcome", "booking", "booking"]
        assert connection.rest() == b""
    with plain(daemon) as connection:
        connection.finish()
        assert connection.rest() == b""
