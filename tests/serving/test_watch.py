"""What a watcher is promised, and what it can do to nobody else. A real daemon, raw connections."""

import asyncio
import re
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from tests.daemon import Connection, Daemon, running, unasked, until, write_events
from tests.serving.conftest import on_both_loops, serving
from tests.serving.conftest import until as until_true
from ticketd.config import Limits
from ticketd.serving.stream import WRITE_BYTES
from ticketd.serving.watchers import EVENTS_AT_ONCE

GROWTH_KIB_MAX = 60 * 1024
STAMPEDE_SECONDS_MAX = 60.0
# So many events that a watcher cannot be sent them at once.
MANY = 1_500


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    write_events(tmp_path, 100, 200, 300)
    with running(tmp_path) as daemon:
        yield daemon


def watching(connection: Connection, line: str, events: int) -> list[dict[str, Any]]:
    """Begin to watch, and return the state from which the changes start."""
    connection.send(line.encode() + b"\n")
    return [connection.read() for _ in range(events)]


def test_a_watcher_gets_all_events_first_and_then_changes(daemon: Daemon) -> None:
    with daemon.connect() as watcher, daemon.connect() as buyer:
        buyer.ask("book 2 5")
        state = watching(watcher, "watch", 3)
        assert state == [buyer.ask(f"show {event}") for event in "123"]
        assert [event["available"] for event in state] == [100, 195, 300]
        for line in (
            "book 1 3",
            "hold 2 4 --booking h",
            "confirm h",
            "cancel h",
            "amend 3 --capacity 350",
            "create Jazz 2027-03-11T20:00:00Z 9 --id jazz",
        ):
            event = buyer.ask(line).get("event") or line.split()[-1].replace("350", "3")
            assert watcher.read() == buyer.ask(f"show {event}")


def test_a_watcher_of_one_event_sees_no_other(daemon: Daemon) -> None:
    with daemon.connect() as watcher, daemon.connect() as buyer:
        assert [event["id"] for event in watching(watcher, "watch 2", 1)] == ["2"]
        buyer.ask("book 1 1")
        buyer.ask("book 3 1")
        buyer.ask("book 2 7")
        event = watcher.read()
        assert (event["id"], event["sold"]) == ("2", 7)
        assert watcher.ask("ping") == {"reply": "pong"}


def test_a_single_small_change_reaches_a_watcher(daemon: Daemon) -> None:
    with daemon.connect() as watcher:
        watching(watcher, "watch 1", 1)
        with daemon.connect() as buyer:
            buyer.send(b"book 1 1\nbook 1 1\n")
            assert [buyer.read()["version"] for _ in range(2)] == [1, 2]
        # Of two changes at once the later is sent, the earlier may be.
        assert watcher.read()["version"] == 2 or watcher.read()["version"] == 2


def test_the_next_request_ends_a_watch_and_is_answered(daemon: Daemon) -> None:
    with daemon.connect() as watcher, daemon.connect() as other, daemon.connect() as buyer:
        watching(watcher, "watch", 3)
        watching(other, "watch", 3)
        assert buyer.ask("stats")["watchers"] == 2
        assert watcher.ask("show 1")["version"] == 0
        assert buyer.ask("stats")["watchers"] == 1
        buyer.ask("book 1 1")
        assert other.read()["version"] == 1
        assert watcher.ask("ping") == {"reply": "pong"}
        # A bad line is a line, and a watch may begin again.
        assert other.ask("nonsense")["code"] == "unknown_command"
        assert [event["version"] for event in watching(watcher, "watch", 3)] == [1, 0, 0]
        assert watching(watcher, "watch 3", 1)[0]["id"] == "3"
        buyer.ask("book 1 1")
        buyer.ask("book 3 1")
        assert watcher.read()["id"] == "3"
        assert other.ask("ping") == {"reply": "pong"}


@on_both_loops
async def test_a_watcher_of_a_removed_event_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        watcher, other, buyer = [await served.connect() for _ in range(3)]
        assert (await watcher.ask('{"cmd":"watch","event":"1","tag":"w"}'))["tag"] == "w"
        assert (await buyer.ask("create Jazz 2027-03-11T20:00:00Z 9 --id jazz"))["version"] == 0
        other.send(b"watch\n")
        assert [(await other.read())["id"] for _ in range(2)] == ["1", "jazz"]
        await buyer.ask("book 1 1")
        served.service.catalogue.remove(["1"])
        while (told := await watcher.read())["reply"] == "event":
            assert (told["id"], told["tag"]) == ("1", "w")
        assert told == {
            "reply": "error",
            "code": "event_not_found",
            "message": "event 1 was removed, so no more changes come",
            "unasked": True,
            "tag": "w",
        }
        assert await watcher.rest() == b""
        assert [event["id"] for event in (await buyer.ask("list"))["events"]] == ["jazz"]
        assert (await buyer.ask("watch 1"))["code"] == "event_not_found"
        await buyer.ask("book jazz 2")
        while (told := await other.read())["id"] == "1":
            pass
        assert (told["id"], told["sold"]) == ("jazz", 2)


def test_watching_an_unknown_event_is_refused(daemon: Daemon) -> None:
    with daemon.connect() as connection, daemon.connect() as other:
        refusal = connection.ask("watch nope")
        assert (refusal["reply"], refusal["code"]) == ("error", "event_not_found")
        assert "nope" in refusal["message"]
        assert other.ask("stats")["watchers"] == 0
        assert connection.ask("book 1 1")["state"] == "confirmed"


def test_a_watcher_that_disconnects_is_forgotten(daemon: Daemon) -> None:
    with daemon.connect() as buyer:
        for linger in (struct.pack("ii", 0, 0), struct.pack("ii", 1, 0)):
            with daemon.connect() as watcher:
                watching(watcher, "watch", 3)
                assert buyer.ask("stats")["watchers"] == 1
                watcher.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            until(lambda: buyer.ask("stats")["watchers"] == 0)


def test_watchers_have_no_idle_timeout_and_others_do(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path, "--idle-seconds-max", "0.3") as daemon, daemon.connect() as watcher:
        watching(watcher, "watch", 1)
        with daemon.connect() as silent:
            assert unasked(silent.read()) == "idle_timeout"
        with daemon.connect() as buyer:
            buyer.ask("book 1 1")
        assert watcher.read()["version"] == 1
        assert watcher.ask("ping") == {"reply": "pong"}
        assert unasked(watcher.read()) == "idle_timeout"


def test_watchers_get_shutting_down_when_the_daemon_ends(daemon: Daemon) -> None:
    with daemon.connect() as watcher:
        watching(watcher, "watch", 3)
        assert daemon.end(signal.SIGTERM) == 0
        assert unasked(watcher.read()) == "shutting_down"
        assert watcher.rest() == b""


@on_both_loops
async def test_a_watcher_that_reads_slowly_is_not_cut_off(tmp_path: Path) -> None:
    seconds = 1.0
    async with serving(tmp_path, Limits(write_seconds_max=seconds), events=3 * EVENTS) as served:
        watcher, buyer = await served.connect(), await served.connect()
        watcher.send(b"watch\n")
        assert (await watcher.read())["id"] == "1"
        # It takes something all the time, but not all of it in the time in which it must take something.
        for number in range(2, 3 * EVENTS + 1):
            assert (await watcher.read())["id"] == str(number)
            if number % (EVENTS // 2) == 0:
                await asyncio.sleep(0.3 * seconds)
            if number == EVENTS // 2:
                assert (await buyer.ask("book 1 1"))["version"] == 1
        assert (await watcher.read())["version"] == 1


@on_both_loops
async def test_watches_begun_one_after_the_other_end_one_another(tmp_path: Path) -> None:
    async with serving(tmp_path, events=3) as served:
        client, buyer = await served.connect(), await served.connect()
        client.send(b"watch 1\nwatch 2\nwatch\nwatch 3\n")
        assert [(await client.read())["id"] for _ in range(6)] == ["1", "2", "1", "2", "3", "3"]
        assert len(served.service.watchers) == 1
        for event in "123":
            await buyer.ask(f"book {event} 1")
        changed = await client.read()
        assert (changed["id"], changed["version"]) == ("3", 1)
        # A blank line is no line.
        client.send(b"\n \r\n")
        await buyer.ask("book 3 1")
        assert (await client.read())["version"] == 2
        # Half a line does not end it, and the rest does.
        client.send(b"pi")
        await buyer.ask("book 3 1")
        assert (await client.read())["version"] == 3
        client.send(b"ng\n")
        assert await client.read() == {"reply": "pong"}
        assert len(served.service.watchers) == 0


@on_both_loops
async def test_a_watch_that_begins_as_events_change_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        first, client, buyer = [await served.connect() for _ in range(3)]
        assert (await first.ask("watch"))["version"] == 0
        for version in range(1, 21):
            # A round of the watchers is due at once, for the time since the last has passed, when another begins.
            served.service.watchers._sent_at = 0.0
            client.send(b"watch\n")
            assert (await buyer.ask("book 1 1"))["version"] == version
            assert (await client.read())["reply"] == "event"
        assert served.service.connections == 3


@on_both_loops
async def test_a_silent_watcher_gets_a_heartbeat_between_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ticketd.serving.watchers.HEARTBEAT_SECONDS", 0.02)
    async with serving(tmp_path) as served:
        client, buyer = await served.connect(), await served.connect()
        heartbeat = {"reply": "pong", "heartbeat": True}
        client.send(b"watch\n")
        assert (await client.read())["id"] == "1"
        assert [await client.read() for _ in range(3)] == [heartbeat] * 3
        await buyer.ask("book 1 1")
        while (reply := await client.read()) == heartbeat:
            pass
        assert reply["version"] == 1
        assert await client.read() == heartbeat
        # The reply to a ping is none.
        client.send(b"ping\n")
        while (reply := await client.read()) == heartbeat:
            pass
        assert reply == {"reply": "pong"}


@on_both_loops
async def test_a_watcher_that_takes_no_heartbeat_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ticketd.serving.watchers.HEARTBEAT_SECONDS", 0.05)
    caplog.set_level("INFO", "ticketd.serving")
    # Too much for the kernel, and too little to wait until it is taken.
    async with serving(tmp_path, Limits(write_seconds_max=0.2), events=EVENTS // 2) as served:
        client, connection = await served.alone()
        client.send(b"watch\n")
        await until_true(lambda: len(served.service.watchers) == 1)
        await until_true(lambda: served.service.connections == 0)
        assert connection._waiting_for == "ended"
        assert [record.getMessage().split()[0] for record in caplog.records] == ["cut"]


@on_both_loops
async def test_what_waits_for_a_watcher_of_everything_is_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path, events=MANY) as served:
        deaf, connection = await served.alone()
        prompt, buyer = await served.connect(), await served.connect()
        deaf.send(b"watch\n")
        await until_true(lambda: connection._waiting_for == "room")
        slice_bytes = EVENTS_AT_ONCE * 512
        assert connection.transport.get_write_buffer_size() <= WRITE_BYTES + slice_bytes
        prompt.send(b"watch\n")
        for number in range(1, MANY + 1):
            assert (await prompt.read())["id"] == str(number)
        # All of them change, in several rounds, and the one that reads sees it.
        for version in range(1, 4):
            buyer.send(b"".join(b"book %d 1\n" % number for number in range(1, MANY + 1)))
            for _ in range(MANY):
                assert (await buyer.read())["version"] == version
        behind = dict.fromkeys(range(1, MANY + 1))
        while behind:
            if (changed := await prompt.read())["version"] == 3:
                # A state that came while earlier changes were sent may be sent again for its own.
                behind.pop(int(changed["id"]), None)
        assert connection._watching
        assert connection.transport.get_write_buffer_size() <= WRITE_BYTES + slice_bytes
        # It gets all of its state, and then what has changed since it began, each once.
        state = [await deaf.read() for _ in range(MANY)]
        assert [event["id"] for event in state] == [str(number) for number in range(1, MANY + 1)]
        changes = [await deaf.read() for _ in range(MANY)]
        assert {event["id"] for event in changes} == {event["id"] for event in state}
        assert {event["version"] for event in changes} == {3}


# The stampede

EVENTS = 300
THE_END = "The end"
READERS = DEAF = 50
BUYERS = 20


def memory_kib(daemon: Daemon, what: str) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def deaf_watcher(port: int, times: int) -> socket.socket:
    """Return a connection that watches and does not read. The state a few times fills the kernel's buffers sooner."""
    deaf = socket.socket()
    deaf.settimeout(STAMPEDE_SECONDS_MAX)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.connect(("127.0.0.1", port))
    deaf.sendall(b"watch\n" * times)
    return deaf


async def watch_to_the_end(reader: asyncio.StreamReader) -> dict[str, dict[str, Any]]:
    """Read a watcher's lines until every event is at its end; return each event as it was sent last."""
    seen: dict[str, dict[str, Any]] = {}
    while sum(event["name"] == THE_END for event in seen.values()) < EVENTS:
        event = msgspec.json.decode(await reader.readline())
        if "heartbeat" in event:
            continue
        assert event["version"] >= seen.get(event["id"], event)["version"]
        seen[event["id"]] = event
    return seen


async def buy_until(port: int, over: asyncio.Event, events: list[str]) -> int:
    """Book one ticket of each event, over and over; return how many were sold."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sold = 0
    with closing(writer):
        while not over.is_set():
            writer.write(b"".join(f"book {event} 1\n".encode() for event in events))
            for _ in events:
                assert msgspec.json.decode(await reader.readline())["state"] == "confirmed"
            sold += len(events)
    return sold


async def stampede(port: int, control: Connection) -> None:
    """Buy while half of the watchers read, until the other half is cut off, and on to the end."""
    events = [str(number) for number in range(EVENTS)]
    with ExitStack() as stack:
        readers = []
        for _ in range(READERS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.enter_context(closing(writer))
            writer.write(b"watch\n")
            readers.append(reader)
        over = asyncio.Event()
        async with asyncio.timeout(STAMPEDE_SECONDS_MAX), asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(watch_to_the_end(reader)) for reader in readers]
            buying = [tasks.create_task(buy_until(port, over, events[buyer::BUYERS])) for buyer in range(BUYERS)]
            await asyncio.to_thread(until, lambda: control.ask("stats")["watchers"] == READERS)
            before = control.ask("stats")["tickets"]
            # Sales go on.
            await asyncio.to_thread(until, lambda: control.ask("stats")["tickets"] > before)
            over.set()
            sold = sum([await buyer for buyer in buying])
            final = end_all(control)
            assert sum(event["sold"] for event in final.values()) == sold
            for watcher in watching:
                assert await watcher == final


def create_all(control: Connection) -> None:
    """Create events with names so long that little fits into the kernel's buffers."""
    for number in range(EVENTS):
        control.send(f"create {'x' * 200} 2027-03-11T20:00:00Z 1000000 --id {number}\n".encode())
    assert [control.read()["id"] for _ in range(EVENTS)] == [str(number) for number in range(EVENTS)]


def end_all(control: Connection) -> dict[str, dict[str, Any]]:
    """Change every event for the last time; return them all as they are then."""
    control.send(b"".join(f"amend {number} --name '{THE_END}'\n".encode() for number in range(EVENTS)))
    final = [control.read() for _ in range(EVENTS)]
    return {event["id"]: event for event in final}


def test_watchers_that_do_not_read_cost_the_others_nothing(tmp_path: Path) -> None:
    # Over 5 s on a busy machine: the daemon writes megabytes for each of them.
    with ExitStack() as stack:
        daemon = stack.enter_context(running(tmp_path, "--write-seconds-max", "0.5"))
        control = stack.enter_context(daemon.connect())
        create_all(control)
        before = memory_kib(daemon, "VmRSS")
        for _ in range(DEAF):
            stack.enter_context(deaf_watcher(daemon.port, 8))
        until(lambda: control.ask("stats")["watchers"] == DEAF)
        uvloop.run(stampede(daemon.port, control))
        growth = memory_kib(daemon, "VmHWM") - before
        print("memory grew by KiB", growth)
        assert growth < GROWTH_KIB_MAX
        # Cut off by the daemon, or by the kernel if its buffers took all that was sent.
        until(lambda: control.ask("stats")["connections"] == 1)


def test_a_watcher_that_fell_behind_gets_the_latest_state(tmp_path: Path) -> None:
    with ExitStack() as stack:
        daemon = stack.enter_context(running(tmp_path))
        control = stack.enter_context(daemon.connect())
        create_all(control)
        slow = stack.enter_context(deaf_watcher(daemon.port, 24))
        until(lambda: control.ask("stats")["watchers"] == 1)
        prompt = stack.enter_context(daemon.connect())
        watching(prompt, "watch 0", 1)
        for sold in range(1, 9):
            # One message after the other, until it is too much for a client that does not read.
            control.send(b"".join(f"book {number} 1\n".encode() for number in reversed(range(EVENTS))))
            assert [control.read()["version"] for _ in range(EVENTS)] == [sold] * EVENTS
            assert prompt.read()["sold"] == sold
        final = end_all(control)
        assert prompt.read() == final["0"]
        seen: dict[str, Any] = {}
        with slow.makefile("rb") as lines:
            while seen != final:
                event = msgspec.json.decode(lines.readline())
                seen[event["id"]] = event
