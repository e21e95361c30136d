"""What a connection is promised: one coded reply a line, deadlines, the door, the drain. A real daemon, raw bytes."""

import asyncio
import gc
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import cast

import msgspec
import pytest
import uvloop

from tests.daemon import Connection, Daemon, running, until, write_events
from ticketd.box_office import BoxOffice
from ticketd.catalogue import Catalogue
from ticketd.config import Limits
from ticketd.connection import Connection as ServedConnection
from ticketd.ids import new_id
from ticketd.server import DESCRIPTORS_KEPT, Server
from ticketd.session import House
from ticketd.stores.sqlite import SqliteStore
from ticketd.watchers import Watchers

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
# Of the loop, until a transport that was aborted is closed.
ROUNDS_TO_CLOSE = 10
PIPELINES = 50
PIPELINED = 1_000
PIPELINES_SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("server")
    write_events(folder, 1_000_000, 10)
    with running(folder) as daemon:
        yield daemon


BAD_LINES = [
    (b"book 1 0", "bad_request", "quantity"),
    (b"book 1 -5", "bad_request", "quantity"),
    (b"book 1 99999999999999999999", "bad_request", "quantity"),
    (b"book nope 1", "event_not_found", "nope"),
    (b"book nope! 1", "bad_request", "event"),
    (b'create "" 2027-03-11T20:00:00Z 5', "bad_request", "name"),
    (b"create Jazz 2027-03-11T20:00:00 5", "bad_request", "date"),
    (b"create Jazz 2027-03-11 5", "bad_request", "date"),
    (b"create Jazz 2027-03-11T20:00:00Z 0", "bad_request", "capacity"),
    (b"create 'a\x1b[2J' 2027-03-11T20:00:00Z 5", "bad_request", "name"),
    (b"create a\0b 2027-03-11T20:00:00Z 5", "bad_request", "name"),
    (b'{"cmd":"create","name":"a\\nb","date":"2027-03-11T20:00:00Z","capacity":5}', "bad_request", "name"),
    (b'{"cmd":"book"}', "bad_request", "event"),
    (b'{"cmd":"book","event":"1","quantity":true}', "bad_request", "quantity"),
    (b'{"cmd":"book","event":"1","quantity":1,"colour":"red"}', "bad_request", "colour"),
    (b"{}", "bad_request", "cmd"),
    (b"[]", "unknown_command", "[]"),
    (b"null", "unknown_command", "null"),
    (b"{", "bad_frame", "JSON"),
    (b'{"cmd":"list"} x', "bad_frame", "JSON"),
    (b'{"cmd":"book","event":"\xff","quantity":1}', "bad_frame", "UTF-8"),
    (b"book \xff\xfe 1", "bad_frame", "UTF-8"),
    (b'{"a":' * 3_000, "bad_frame", "this line is not JSON"),
    (b"[" * 16_000, "unknown_command", "[[["),
    (b'create "Jazz', "bad_request", "quot"),
    (b"list --after nope", "event_not_found", "nope"),
    (b"help nope", "unknown_command", "nope"),
    (b"show nope", "not_found", "nope"),
]


@pytest.mark.parametrize(("line", "code", "named"), BAD_LINES, ids=lambda value: repr(value)[:40])
def test_bad_input_gets_its_code_changes_nothing_and_the_connection_books_on(
    daemon: Daemon, line: bytes, code: str, named: str
) -> None:
    with daemon.connect() as connection:
        before = connection.ask("list")
        refusal = connection.ask(line)
        assert (refusal["reply"], refusal["code"]) == ("error", code)
        assert named in refusal["message"]
        assert refusal["message"].isprintable()
        assert connection.ask("list") == before
        assert connection.ask("book 1 1")["state"] == "confirmed"


@pytest.mark.parametrize(
    "data", [b"x" * 1_000_000, b"[" * 100_000, b"{" * 16_385, b"book 1 1 " + b" " * 16_376 + b"\n"]
)
def test_a_line_that_is_too_long_is_told_and_ends_the_connection(daemon: Daemon, data: bytes) -> None:
    with daemon.connect() as connection:
        connection.send(b"ping\n" + data)
        assert connection.read() == {"reply": "pong"}
        assert connection.read()["code"] == "frame_too_long"
        assert connection.rest() == b""


def test_an_http_request_is_refused_before_its_body_can_be_taken_for_commands(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.send(b"ping\nPOST / HTTP/1.1\r\nHost: localhost\r\n\r\nbook 1 1\n")
        assert connection.read() == {"reply": "pong"}
        assert connection.read()["code"] == "bad_frame"
        assert connection.rest() == b""


def test_replies_come_in_the_order_sent_and_a_list_shows_what_was_booked_before_it(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.send(b"list\nbook 1 2\nlist\n{}\nbook 1 3\nshow 1\nping\n")
        before, first, between, error, second, after, pong = (connection.read() for _ in range(7))
    sold = before["events"][0]["sold"]
    assert [reply["reply"] for reply in (first, error, second, pong)] == ["booking", "error", "booking", "pong"]
    assert between["events"][0]["sold"] == sold + 2
    assert after["sold"] == sold + 5


def test_the_way_bytes_are_cut_into_packets_makes_no_difference(daemon: Daemon) -> None:
    lines = b'{"cmd":"ping"}\r\n\n  ping\n\r\n{"cmd":"nope"}\nshow nope\n'
    with daemon.connect() as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in lines:
            connection.send(bytes([byte]))
        dribbled = [connection.read() for _ in range(4)]
        connection.send(lines)
        assert [connection.read() for _ in range(4)] == dribbled


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b'{"cmd":"ping"}', {"reply": "pong"}),
        (b"ping", "bad_frame"),
        (b'{"cmd":"pi', "bad_frame"),
    ],
)
def test_at_the_end_of_input_whole_json_counts_and_words_do_not(daemon: Daemon, data: bytes, reply: object) -> None:
    with daemon.connect() as connection:
        connection.send(data)
        connection.finish()
        answer = connection.read()
        assert reply in (answer, answer.get("code"))
        assert connection.rest() == b""


def test_a_pipeline_of_many_thousands_is_answered_line_by_line(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.send(b"book 1 1\n" * 3_000)
        replies = [connection.read() for _ in range(3_000)]
    versions = [reply["version"] for reply in replies]
    assert versions == list(range(versions[0], versions[0] + 3_000))


def test_event_names_cannot_forge_a_log_line(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        created = connection.ask('create "a\\" peer=evil \\\\" 2027-03-11T20:00:00Z 5 --id forger')
        assert created["name"] == 'a" peer=evil \\'
    assert r'name="a\" peer=evil \\" capacity=5' in daemon.wait_line("created event=forger")


def test_stats_count_what_was_done(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        before = connection.ask("stats")
        connection.ask("book 1 2 --booking counted")
        connection.ask("book 1 2 --booking counted")
        connection.ask("book 2 999")
        after = connection.ask("stats")
    grown = {name for name in before if after[name] != before[name]}
    assert after["bookings"] - before["bookings"] == 1
    assert after["tickets"] - before["tickets"] == 2
    assert after["refused"] - before["refused"] == 1
    assert after["requests"] - before["requests"] == 4
    # Connections of the test before may be closing yet.
    assert grown <= {"bookings", "tickets", "refused", "requests", "commits", "uptime_seconds", "connections"}


# Deadlines


def test_a_silent_connection_is_told_and_closed(tmp_path: Path) -> None:
    with running(tmp_path, "--idle-seconds-max", "0.2") as daemon, daemon.connect() as connection:
        assert connection.read()["code"] == "idle_timeout"
        assert connection.rest() == b""


def test_a_line_that_dribbles_is_told_and_closed(tmp_path: Path) -> None:
    with running(tmp_path, "--frame-seconds-max", "0.3") as daemon, daemon.connect() as connection:
        connection.send(b"pi")
        # More bytes of the same line do not move its deadline.
        while not select.select([connection.socket], [], [], 0.05)[0]:
            connection.send(b"n")
        assert connection.read()["code"] == "idle_timeout"


def test_a_client_that_does_not_read_its_replies_is_cut_off(tmp_path: Path) -> None:
    write_events(tmp_path, *[100] * 28)
    with running(tmp_path, "--write-seconds-max", "0.3") as daemon, daemon.connect() as connection:
        connection.send(b"list\n" * 20_000)
        assert "unsent_bytes" in daemon.wait_line("cut off")


# The door


def test_past_the_cap_connections_wait_their_turn_and_past_the_line_they_are_turned_away(tmp_path: Path) -> None:
    with running(tmp_path, "--connections-max", "1", "--waiting-max", "1") as daemon, daemon.connect() as served:
        assert served.ask("ping") == {"reply": "pong"}
        with daemon.connect() as waiting:
            waiting.send(b"ping\n")
            until(lambda: served.ask("stats")["waiting"] == 1)
            with daemon.connect() as too_many:
                refusal = too_many.read()
                assert (refusal["code"], refusal["retry_after"]) == ("too_many_connections", 1)
                assert too_many.rest() == b""
            served.__exit__()
            assert waiting.read() == {"reply": "pong"}


def test_nobody_waits_at_the_door_for_ever(tmp_path: Path) -> None:
    flags = ("--connections-max", "1", "--door-seconds-max", "0.2")
    with running(tmp_path, *flags) as daemon, daemon.connect() as served, daemon.connect() as waiting:
        assert served.ask("ping") == {"reply": "pong"}
        assert waiting.read()["code"] == "too_many_connections"


def test_connections_that_are_reset_at_the_door_leave_their_places_to_others(tmp_path: Path) -> None:
    with running(tmp_path, "--connections-max", "4") as daemon:
        served = [daemon.connect() for _ in range(4)]
        for connection in served:
            assert connection.ask("ping") == {"reply": "pong"}
        for _ in range(40):
            with daemon.connect() as hasty:
                hasty.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for connection in served:
            connection.__exit__()
        together = [daemon.connect() for _ in range(4)]
        for connection in together:
            assert connection.ask("ping") == {"reply": "pong"}
        for connection in together:
            connection.__exit__()
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


def test_when_connections_have_used_up_the_descriptors_those_inside_are_served_and_the_log_tells_it_once(
    tmp_path: Path,
) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon, daemon.connect() as inside, ExitStack() as stack:
        assert inside.ask("ping") == {"reply": "pong"}
        limit_descriptors(daemon, DESCRIPTORS_KEPT + 10)
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


def test_without_a_single_descriptor_the_daemon_serves_those_inside_without_spinning_and_accepts_again(
    tmp_path: Path,
) -> None:
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
            assert inside.read()["code"] == "idle_timeout"
            cpu = cpu_seconds(daemon) - cpu_began
        limit_descriptors(daemon, 1_024)
        with daemon.connect() as later:
            assert cpu < (later.ask("stats")["uptime_seconds"] - began) / 2
            assert later.ask("book 1 1")["state"] == "confirmed"


# Turns


async def test_a_crowd_that_pipelines_delays_who_asks_one_thing_at_a_time_by_a_few_turns_not_by_one_for_each(
    tmp_path: Path,
) -> None:
    limits = Limits()
    store = SqliteStore(tmp_path / "events.db", new_id, limits.commit_seconds_max)
    catalogue = Catalogue(await store.events())
    house = House(BoxOffice(store, catalogue, limits), catalogue, limits, Watchers(catalogue))
    server = Server(house)
    [address] = await server.listen("127.0.0.1", 0)
    port = int(address.rpartition(":")[2])

    async def pipeline() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            writer.write(b"x\n" * PIPELINED)
            for _ in range(PIPELINED):
                assert await reader.readline()

    async with asyncio.timeout(PIPELINES_SECONDS_MAX), asyncio.TaskGroup() as tasks:
        pipelines = [tasks.create_task(pipeline()) for _ in range(PIPELINES)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        before_it = []
        with closing(writer):
            while not all(pipeline.done() for pipeline in pipelines):
                before = house.requests
                writer.write(b"ping\n")
                assert await reader.readline() == b'{"reply":"pong"}\n'
                before_it.append(house.requests - before)
    await server.drain(limits.drain_seconds_max)
    await store.close()
    assert house.requests == PIPELINES * PIPELINED + len(before_it)
    assert max(before_it) <= 5 * limits.frames_in_flight_max


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_a_connection_that_has_ended_is_forgotten_at_once(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def converse() -> None:
        limits = Limits()
        store = SqliteStore(tmp_path / "events.db", new_id, limits.commit_seconds_max)
        catalogue = Catalogue(await store.events())
        box_office = BoxOffice(store, catalogue, limits)
        selling = asyncio.create_task(box_office.run())
        server = Server(House(box_office, catalogue, limits, Watchers(catalogue)))
        [address] = await server.listen("127.0.0.1", 0)
        for lines in (b"ping\n", b"watch\n", b"ping"):
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
                writer.write(lines)
                if lines == b"ping\n":
                    await reader.readline()
                if lines == b"watch\n":
                    # Not a farewell: it is reset.
                    cast(asyncio.Transport, writer.transport).abort()
                else:
                    writer.write_eof()
                    await reader.read()
                    writer.close()
                    await writer.wait_closed()
        await server.drain(limits.drain_seconds_max)
        for _ in range(ROUNDS_TO_CLOSE):
            await asyncio.sleep(0)
        assert not any(isinstance(thing, ServedConnection) for thing in gc.get_objects())
        box_office.close()
        await selling
        await store.close()

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(converse())
    finally:
        gc.enable()


# The drain


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_answers_what_was_read_saves_the_catalogue_and_exits_0(tmp_path: Path, signum: signal.Signals) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon, daemon.connect() as buyer, daemon.connect() as idle:
        assert idle.ask("ping") == {"reply": "pong"}
        assert buyer.ask("book 1 3")["available"] == 97
        assert daemon.end(signum) == 0
        assert idle.read()["code"] == "shutting_down"
        assert idle.rest() == b""
    catalogue = msgspec.json.decode((tmp_path / "events.json").read_bytes())
    assert catalogue["events"][0]["AvailableTickets"] == 97


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
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
        connection.__exit__()


def test_nothing_is_accepted_while_draining(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        port = daemon.port
        daemon.end()
        with pytest.raises(ConnectionRefusedError):
            Connection(port)
