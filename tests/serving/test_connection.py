"""The deadlines of a connection, its buffers, how it ends in whatever it waits for, and what is left of it then."""

import asyncio
import gc
import select
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.daemon import running, unasked, write_events
from tests.faults.disk import RealDisk
from tests.secured import secret
from tests.serving.conftest import LOOPS, Served, guarded_service, on_both_loops, serving, until
from ticketd.config import Limits
from ticketd.serving.connection import Connection as ServedConnection
from ticketd.serving.service import Service
from ticketd.serving.stream import READ_BYTES, WRITE_BYTES
from ticketd.wire.replies import ErrorReply

# As many events as make a list hardly shorter than what a client must take before more is made for it.
EVENTS = 600
LIST_BYTES_MIN = WRITE_BYTES // 2

CROWD = 60

Run = Callable[[], asyncio.AbstractEventLoop]


def all_asked(served: Served, requests: int) -> bool:
    return served.service.requests == requests


class StaleService(Service):
    """Has always holds that have run out."""

    def has_due_holds(self) -> bool:
        return True


# Deadlines


def test_a_silent_connection_gets_idle_timeout_and_is_closed(tmp_path: Path) -> None:
    with running(tmp_path, "--idle-seconds-max", "0.2") as daemon, daemon.connect() as connection:
        assert unasked(connection.read()) == "idle_timeout"
        assert connection.rest() == b""


def test_a_line_that_arrives_too_slowly_gets_idle_timeout(tmp_path: Path) -> None:
    with running(tmp_path, "--frame-seconds-max", "0.3") as daemon, daemon.connect() as connection:
        connection.send(b"pi")
        # More bytes of the same line do not move its deadline.
        while not select.select([connection.socket], [], [], 0.05)[0]:
            connection.send(b"n")
        assert unasked(connection.read()) == "idle_timeout"


def test_a_client_that_does_not_read_its_replies_is_cut_off(tmp_path: Path) -> None:
    write_events(tmp_path, *[100] * 28)
    with running(tmp_path, "--write-seconds-max", "0.3") as daemon, daemon.connect() as connection:
        connection.send(b"list\n" * 20_000)
        assert "unsent_bytes" in daemon.wait_line("cut off")


@on_both_loops
async def test_the_time_that_a_commit_takes_is_no_idle_time(tmp_path: Path, disk: RealDisk) -> None:
    async with serving(tmp_path, Limits(idle_seconds_max=0.1, frame_seconds_max=0.1)) as served:
        client = await served.connect()
        disk.sync_may_end.clear()
        client.send(b"book 1 1\npi")
        other = await served.connect()
        assert unasked(await other.read()) == "idle_timeout"
        client.send(b"ng\n")
        disk.sync_may_end.set()
        assert (await client.read())["reply"] == "booking"
        assert await client.read() == {"reply": "pong"}
        assert unasked(await client.read()) == "idle_timeout"


# Input


@on_both_loops
async def test_data_and_the_end_in_the_same_instant_are_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for data, replies in {
            b"": 0,
            b"ping\n": 1,
            b"book 1 1\n": 1,
            b"book 1 1\nshow nothing\nping\n": 3,
            b'{"cmd":"ping"}': 1,
            b"ping\n" * 100: 100,
        }.items():
            client = socket.create_connection(("127.0.0.1", served.port))
            # The loop does not run before all of it has come.
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            reader, writer = await asyncio.open_connection(sock=client)
            assert (await reader.read()).count(b"\n") == replies
            writer.close()
            await writer.wait_closed()
        assert served.sold() == 2


@on_both_loops
async def test_pipelines_longer_than_the_read_buffer_are_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client = await served.connect()
        lines = 40 * READ_BYTES // 40
        for number in range(lines):
            client.send(b"ping\n" if number % 10 else b"book 1 1 --booking b-%d\n" % number)
        client.send(b"show nothing\n")
        client.finish()
        for number in range(lines):
            reply = await client.read()
            assert reply.get("id") == (None if number % 10 else f"b-{number}")
        assert (await client.read())["code"] == "not_found"
        assert await client.rest() == b""


@on_both_loops
async def test_a_line_much_longer_than_the_read_buffer_is_read(tmp_path: Path) -> None:
    longest = 20 * READ_BYTES
    async with serving(tmp_path, Limits(frame_bytes_max=longest)) as served:
        client = await served.connect()
        client.send(b"ping\n" + b"ping".ljust(longest) + b"\nping\n" + b"x" * longest)
        for _ in range(3):
            assert await client.read() == {"reply": "pong"}
        client.send(b"xx")
        assert (await client.read())["code"] == "frame_too_long"
        assert await client.rest() == b""


# Output that is not taken. Of each kind, the second of these lines is held until there is room.

HELD = {
    "commit": ["list", "book 1 1", "list", "book 1 1"],
    "read": ["list", "show nothing", "list", "show nothing"],
    "expire": ["list", "list", "list", "list"],
    "watch": ["list", "watch 1", "list", "watch 1"],
    "share": ["list", "list", "list"],
    "input": ["list", "show nothing", "list"],
    "end": ["list", "show nothing", "list", "GET / HTTP/1.1"],
}
REPLIES = {"list": "events", "book": "booking", "show": "error", "watc": "event", "GET ": "error", "ping": "pong"}


@pytest.mark.parametrize("kind", HELD)
@on_both_loops
async def test_what_comes_next_waits_until_replies_are_taken(tmp_path: Path, kind: str) -> None:
    make = StaleService if kind == "expire" else Service
    async with serving(tmp_path, make=make, events=EVENTS) as served:
        client, connection = await served.alone()
        client.send("".join(f"{line}\n" for line in HELD[kind]).encode())
        await until(lambda: connection._waiting_for == "room")
        assert connection._pending_step == kind
        sold = served.sold()
        assert sold == (kind == "commit")
        if kind != "end":
            client.send(b"ping\n")
        other = await served.connect()
        for _ in range(10):
            assert await other.ask("ping") == {"reply": "pong"}
        assert (connection._waiting_for, served.sold()) == ("room", sold)
        asked = [*HELD[kind], *(["ping"] if kind != "end" else [])]
        for line in asked:
            assert (await client.read())["reply"] == REPLIES[line[:4]]
        if kind == "end":
            assert await client.rest() == b""
        assert served.sold() == asked.count("book 1 1")


@pytest.mark.parametrize("kind", HELD)
@on_both_loops
async def test_whoever_takes_nothing_is_cut_off_whatever_is_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level("INFO", "ticketd.serving")
    make = StaleService if kind == "expire" else Service
    async with serving(tmp_path, Limits(write_seconds_max=0.2), make=make, events=EVENTS) as served:
        client, connection = await served.alone()
        client.send("".join(f"{line}\n" for line in HELD[kind]).encode())
        await until(lambda: connection._waiting_for == "room")
        await until(lambda: served.service.connections == 0)
        assert served.sold() == (kind == "commit")
        assert [record.getMessage().split()[0] for record in caplog.records] == ["cut"]


@pytest.mark.parametrize("kind", HELD)
@on_both_loops
async def test_whoever_goes_with_replies_untaken_ends_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    make = StaleService if kind == "expire" else Service
    async with serving(tmp_path, make=make, events=EVENTS) as served:
        client, connection = await served.alone()
        client.send("".join(f"{line}\n" for line in HELD[kind]).encode())
        await until(lambda: connection._waiting_for == "room")
        client.reset()
        await until(lambda: served.service.connections == 0)
        assert connection._waiting_for == "ended"
        connection.deliver([])
        other = await served.connect()
        assert (await other.ask("book 1 1"))["reply"] == "booking"
        assert not caplog.records


@pytest.mark.parametrize("kind", HELD)
@on_both_loops
async def test_a_drain_sends_what_is_held_and_then_says_why(tmp_path: Path, kind: str) -> None:
    make = StaleService if kind == "expire" else Service
    async with serving(tmp_path, make=make, events=EVENTS) as served:
        client, connection = await served.alone()
        client.send("".join(f"{line}\n" for line in HELD[kind]).encode())
        await until(lambda: connection._waiting_for == "room")
        draining = asyncio.create_task(served.server.drain(20))
        for line in HELD[kind]:
            assert (await client.read())["reply"] == REPLIES[line[:4]]
        if kind != "end":
            assert unasked(await client.read()) == "shutting_down"
        assert await client.rest() == b""
        await client.close()
        await draining


@on_both_loops
async def test_many_watches_of_a_client_that_does_not_read_are_few(tmp_path: Path) -> None:
    async with serving(tmp_path, Limits(write_seconds_max=60), events=EVENTS) as served:
        client, connection = await served.alone()
        client.send(b"watch\n" * 500 + b"ping\n")
        await until(lambda: connection._waiting_for == "room")
        assert connection.transport.get_write_buffer_size() < 3 * WRITE_BYTES
        # It is still a watcher, and when it reads it gets them all.
        assert len(served.service.watchers) == 1
        for _ in range(5 * EVENTS):
            assert (await client.read())["reply"] == "event"


# The end, in whatever it waits for


@on_both_loops
async def test_clients_that_go_during_a_commit_spoil_no_replies(
    tmp_path: Path, disk: RealDisk, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        for each in (2, 3, 7):
            crowd = [await served.connect() for _ in range(CROWD)]
            going = crowd[::each]
            staying = [client for client in crowd if client not in going]
            disk.sync_may_end.clear()
            asked = served.service.requests + 2 * CROWD
            booked = served.sold() + CROWD
            for client in crowd:
                client.send(b"book 1 1\nping\n")
            await until(partial(all_asked, served, asked))
            for client in going:
                client.reset()
            # Some of them are noticed before the replies come, and some only then.
            disk.sync_may_end.set()
            versions = [(await client.read())["version"] for client in staying]
            assert sorted(set(versions)) == sorted(versions)
            for client in staying:
                assert await client.read() == {"reply": "pong"}
            # Whoever went has booked all the same.
            assert (await staying[0].ask("show 1"))["sold"] == booked
        assert not caplog.records


@on_both_loops
async def test_whoever_goes_as_the_replies_come_spoils_nothing(
    tmp_path: Path, disk: RealDisk, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        first, connection = await served.alone()
        second = await served.connect()
        disk.sync_may_end.clear()
        for client in (first, second):
            client.send(b"book 1 1\n")
        await until(lambda: served.service.requests == 3)
        # The transport is closing, and its end has not been told yet.
        connection.transport.abort()
        connection.deliver([ErrorReply("internal", "the first reply")])
        assert connection._waiting_for == "ended"
        disk.sync_may_end.set()
        assert (await second.read())["version"] == 2
        assert served.sold() == 2
        assert not caplog.records


@pytest.mark.parametrize("waits", ["input", "replies", "share", "a place"])
@on_both_loops
async def test_a_drain_ends_a_connection_whatever_it_waits_for(tmp_path: Path, disk: RealDisk, waits: str) -> None:
    async with serving(tmp_path, Limits(connections_max=1 if waits == "a place" else 9)) as served:
        client, connection = await served.alone()
        replies = ["shutting_down"]
        if waits == "replies":
            disk.sync_may_end.clear()
            client.send(b"book nowhere 1\nbook 1 1\nshow nothing\nx\n")
            replies = ["event_not_found", "booking", "not_found", "unknown_command", "shutting_down"]
        elif waits == "share":
            client.send(b"x\n" * 20)
            replies = ["unknown_command"] * 20 + ["shutting_down"]
        elif waits == "a place":
            client = await served.connect()
            client.send(b"ping\n")
            await until(lambda: served.service.places.waiting == 1)
        if waits in ("replies", "share"):
            await until(lambda: connection._waiting_for == waits, seconds=0)
        draining = asyncio.create_task(served.server.drain(20))
        await asyncio.sleep(0)
        disk.sync_may_end.set()
        for expected in replies:
            reply = await client.read()
            assert expected in (reply["reply"], reply.get("code"))
            assert reply.get("unasked", False) == (expected == "shutting_down")
        assert await client.rest() == b""
        for other in served.clients:
            await other.close()
        await draining
        # What comes later is nobody's.
        connection.deliver([])
        connection.interrupt(connection._interruption)  # type: ignore[arg-type]
        assert connection._waiting_for == "ended"


@on_both_loops
async def test_whoever_goes_while_waiting_for_a_place_takes_none(tmp_path: Path) -> None:
    async with serving(tmp_path, Limits(connections_max=1)) as served:
        inside, _ = await served.alone()
        hasty = [await served.connect() for _ in range(5)]
        await until(lambda: served.service.places.waiting == 5)
        for client in hasty:
            client.reset()
        patient = await served.connect()
        patient.send(b"ping\n")
        await until(lambda: served.service.places.waiting == 6)
        await inside.close()
        assert await patient.read() == {"reply": "pong"}


# What is left


def connections() -> list[ServedConnection]:
    return [thing for thing in gc.get_objects() if isinstance(thing, ServedConnection)]


@pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])
def test_a_closed_connection_is_freed_at_once(loop_factory: Run, tmp_path: Path) -> None:
    async def converse() -> None:
        async with serving(tmp_path, make=partial(guarded_service, anonymous="seller")) as served:
            token = f"auth {secret('seller')}\n".encode()
            for lines in (b"ping\n", token, b"watch\n", b"book 1 1\nshow nothing\n", b"ping"):
                for _ in range(5):
                    client = await served.connect()
                    client.send(lines)
                    if lines != b"ping":
                        await client.read()
                    if lines == b"watch\n":
                        client.reset()
                    else:
                        client.finish()
                        await client.rest()
                        await client.close()
            # One more for each thing that the drain ends.
            idle = await served.connect()
            assert await idle.ask("ping") == {"reply": "pong"}
            draining = asyncio.create_task(served.server.drain(20))
            await idle.rest()
            await idle.close()
            await draining
            # A transport that was aborted takes some rounds of the loop to close. Nothing is collected meanwhile.
            await until(lambda: all(each in before for each in connections()))

    gc.collect()
    before = connections()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(converse())
    finally:
        gc.enable()
