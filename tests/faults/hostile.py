"""Hostile clients beside good ones: the good ones see no error and hardly a delay, and nobody hostile stays for ever.

The hostile ones live in a process of their own, which gives way to the others, for they stand for other machines. Each
kind is a coroutine in ``KINDS``: it does its worst with one connection, and returns how that came to its end.
"""

import asyncio
import multiprocessing
import os
import random
import re
import resource
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop

from tests.daemon import Daemon, running, until
from ticketd.serving.server import DESCRIPTORS_RESERVED
from ticketd.serving.stream import READ_BYTES

HOSTILE = 500
GOOD = 10
EVENTS = 5_000
CALM_SECONDS = 1.0
STORM_SECONDS = 2.0
# However slow the machine is, nobody hostile may stay longer after the storm.
ENDED_SECONDS_MAX = 30.0
RUN_SECONDS_MAX = 60.0
# The hostile ones, who stand for other machines, take half of this one, whomever they strike. So what a storm does to
# the good ones is compared with a storm at a neighbor's. Of some tries the best counts: others may use the machine too.
TRIES = 5
RATIO_MAX = 3.0

CONNECTIONS_MAX = 300
WAITING_MAX = 60
# As many at once can be refused a place; past that the descriptors run out.
TURNED_AWAY = 4
# What one connection may take; docs/operating.md has it too.
CONNECTION_KIB_MAX = 2 * 1024
# What the allocator may keep of a storm's memory. Without care, what hundreds of dead connections held is more.
KEPT_KIB_MAX = 256 * 1024
# What uvloop reads from a socket at once.
UVLOOP_READ_BYTES = 256_000
FLAGS = (
    *(
        "--connections-max",
        str(CONNECTIONS_MAX),
        "--connections-waiting-max",
        str(WAITING_MAX),
        "--connections-waiting-seconds-max",
        "2",
    ),
    *("--idle-seconds-max", "2", "--frame-seconds-max", "2", "--write-seconds-max", "2", "--log-level", "warning"),
)

LEFT, CLOSED, RESET = "left", "closed", "reset"
REFUSED = "too_many_connections"


class Stranger:
    """One connection of somebody hostile."""

    def __init__(self, port: int, chance: random.Random, over_at: float) -> None:
        self.chance = chance
        self.served = False
        self._port = port
        self._over_at = over_at
        self._loop = asyncio.get_running_loop()
        self.socket = socket.socket()
        self.socket.setblocking(False)

    @property
    def over(self) -> bool:
        """Whether it is time to go, for those that could go on for ever."""
        return time.monotonic() > self._over_at

    async def connect(self) -> None:
        await self._loop.sock_connect(self.socket, ("127.0.0.1", self._port))

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def hear(self, bytes_max: int = 256 * 1024) -> bytes:
        data = await self._loop.sock_recv(self.socket, bytes_max)
        self.served = self.served or (bool(data) and REFUSED.encode() not in data)
        assert b'"code":"internal"' not in data, data
        return data

    async def last_words(self, heard: bytes = b"") -> str:
        """Return with which error the daemon closes the connection, if with any."""
        while data := await self.hear():
            heard = (heard + data)[-READ_BYTES:]
        code = re.search(rb'^\{"reply":"error","code":"(\w+)"[^\n]*\n\Z', heard, re.MULTILINE)
        return code[1].decode() if code else CLOSED

    async def knock_until_reset(self) -> str:
        """Read nothing more, until the daemon has had enough and resets who knocks."""
        while True:
            await self.send(b"\n")
            await asyncio.sleep(0.25)


async def _be_silent(stranger: Stranger) -> str:
    return await stranger.last_words()


async def _dribble(stranger: Stranger) -> str:
    await stranger.send(b"b")
    ending = asyncio.ensure_future(stranger.last_words())
    try:
        while not (await asyncio.wait([ending], timeout=1))[0]:
            await stranger.send(b"o")
        return await ending
    finally:
        ending.cancel()


async def _half_close(stranger: Stranger) -> str:
    await stranger.send(b"ping\n")
    stranger.socket.shutdown(socket.SHUT_WR)
    return await stranger.last_words()


async def _list_and_never_read(stranger: Stranger) -> str:
    while True:
        await stranger.send(b"list\n" * 1_000)


async def _stop_reading(stranger: Stranger) -> str:
    await stranger.send(b"list\n" * 160)
    await stranger.hear()
    return await stranger.knock_until_reset()


async def _read_a_byte_a_second(stranger: Stranger) -> str:
    await stranger.send(b"list\n" * 160)
    while await stranger.hear(1):
        await stranger.send(b"\n")
        await asyncio.sleep(1)
    return CLOSED


async def _watch_and_never_read(stranger: Stranger) -> str:
    await stranger.send(b"watch\n" * 32)
    return await stranger.knock_until_reset()


async def _send_a_line_without_end(stranger: Stranger) -> str:
    await stranger.send(b"x" * 1_000_000)
    return await stranger.last_words()


async def _send_garbage(stranger: Stranger) -> str:
    await stranger.send(stranger.chance.randbytes(20_000) + b"\n")
    stranger.socket.shutdown(socket.SHUT_WR)
    return await stranger.last_words()


async def _speak_http(stranger: Stranger) -> str:
    await stranger.send(b"GET / HTTP/1.1\r\nHost: tickets.example\r\n\r\n")
    return await stranger.last_words()


async def _reset_in_mid_reply(stranger: Stranger) -> str:
    await stranger.send(b"list\n" * 40)
    await stranger.hear(1)
    stranger.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return LEFT


async def _knock_and_run(stranger: Stranger) -> str:
    return LEFT


async def _buy_a_thousand_and_look_at_them(stranger: Stranger) -> str:
    booking = f"thousand-{stranger.chance.getrandbits(64)}"
    await stranger.send(f"book big 1000 --booking {booking}\n".encode())
    while not (reply := await stranger.hear()).endswith(b"\n"):
        if not reply:
            return CLOSED
    if not stranger.served:
        return await stranger.last_words(reply)
    return await _pipeline(f"show {booking}\ncancel {booking}\n".encode(), 8)(stranger)


def _pipeline(lines: bytes, times: int) -> Callable[[Stranger], Awaitable[str]]:
    async def attack(stranger: Stranger) -> str:
        while not stranger.over:
            await stranger.send(lines * times)
            missing = lines.count(b"\n") * times
            while missing:
                data = await stranger.hear()
                if not data or not stranger.served:
                    return await stranger.last_words(data)
                missing -= data.count(b"\n")
                if missing < 0:
                    # One more than was asked for can only be the last.
                    return await stranger.last_words(data)
        return LEFT

    return attack


# Who reads for long what it has asked for is silent meanwhile.
GREEDY = {LEFT, "idle_timeout"}


class Kind(NamedTuple):
    """What one kind does, how its connections may end once they are served, and how many of it there are."""

    attack: Callable[[Stranger], Awaitable[str]]
    endings: set[str]
    weight: int = 4


KINDS = {
    "silent": Kind(_be_silent, {"idle_timeout"}),
    "dribbling": Kind(_dribble, {"idle_timeout"}),
    "half-closed": Kind(_half_close, {CLOSED}),
    "never reading list": Kind(_list_and_never_read, {RESET}),
    "stopping to read": Kind(_stop_reading, {RESET}),
    "reading a byte a second": Kind(_read_a_byte_a_second, {RESET}),
    "never reading watch": Kind(_watch_and_never_read, {RESET}),
    "line without end": Kind(_send_a_line_without_end, {"frame_too_long"}),
    "garbage": Kind(_send_garbage, {CLOSED, "bad_frame", "unknown_command", "bad_request", "frame_too_long"}),
    "http": Kind(_speak_http, {"bad_frame"}),
    "reset in mid-reply": Kind(_reset_in_mid_reply, {LEFT}),
    "knocking and running": Kind(_knock_and_run, {LEFT}),
    "thousand tickets": Kind(_buy_a_thousand_and_look_at_them, GREEDY, 1),
    "pipelining words": Kind(_pipeline(b"ping\n", 1_000), GREEDY),
    "pipelining json": Kind(_pipeline(b'{"cmd":"ping"}\n', 2_000), GREEDY),
    "pipelining nonsense": Kind(_pipeline(b"x\n", 2_000), GREEDY),
    "pipelining bookings": Kind(_pipeline(b'{"cmd":"book","event":"none","quantity":1}\n', 500), GREEDY),
    # Megabytes, and the hostile ones share little time: who takes nothing until the deadline is cut off.
    "pipelining list": Kind(_pipeline(b"list\n", 40), GREEDY | {CLOSED, RESET}),
    "pipelining help": Kind(_pipeline(b"help\n", 100), GREEDY),
}


class Storm(msgspec.Struct):
    """What the hostile ones saw, and between which times of the clock all of them were at it."""

    began: float
    over: float
    endings: dict[str, dict[str, int]]


def raise_storm(port: int, seed: int, seconds: float) -> Storm:
    """Be hostile in every way for some seconds, and then until all are gone. Runs in a process of its own."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_NOFILE, (HOSTILE + 100,) * 2)
    return uvloop.run(_storm(port, random.Random(seed), seconds))


async def _storm(port: int, chance: random.Random, seconds: float) -> Storm:
    names = list(KINDS) + chance.choices(list(KINDS), [kind.weight for kind in KINDS.values()], k=HOSTILE - len(KINDS))
    chance.shuffle(names)
    began = time.monotonic()
    storm = Storm(began, began + seconds, {name: {} for name in KINDS})
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(_be_hostile(port, name, random.Random(chance.getrandbits(64)), storm))
    return storm


async def _be_hostile(port: int, name: str, chance: random.Random, storm: Storm) -> None:
    """Attack over one connection after the other."""
    kind = KINDS[name]
    while time.monotonic() < storm.over:
        stranger = Stranger(port, chance, storm.over)
        with closing(stranger.socket):
            try:
                async with asyncio.timeout(storm.over - time.monotonic() + ENDED_SECONDS_MAX):
                    await stranger.connect()
                    ending = await kind.attack(stranger)
            except TimeoutError:
                raise AssertionError(f"{name}: not ended {ENDED_SECONDS_MAX:g} s after the storm") from None
            except OSError:
                ending = RESET
        # Whom the machine does not let speak in time is silent to the daemon.
        allowed = kind.endings | {"idle_timeout"} | (set() if stranger.served else {REFUSED, CLOSED, RESET})
        assert ending in allowed, f"{name}: ended with {ending}, not with one of {sorted(allowed)}"
        count = storm.endings[name]
        count[ending] = count.get(ending, 0) + 1


class GoodOne:
    """Asks one thing after the other, mostly to book, and remembers when and how long each reply took."""

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self.event = f"good-{number}"
        self.booked = 0
        self.waits: list[tuple[float, float]] = []

    async def live(self, over: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        with closing(writer):
            while not over.is_set():
                for request, reply in (("book", "booking"), ("book", "booking"), ("show", "event"), ("list", "events")):
                    began = time.monotonic()
                    writer.write(self._line(request))
                    answer = await reader.readline()
                    self.waits.append((began, time.monotonic() - began))
                    assert answer.startswith(f'{{"reply":"{reply}"'.encode()), f"a good one was answered {answer!r}"
                    self.booked += request == "book"

    def _line(self, request: str) -> bytes:
        return {"book": f"book {self.event} 1\n", "show": f"show {self.event}\n", "list": "list --limit 5\n"}[
            request
        ].encode()


def percentile(waits: list[float], percent: int) -> float:
    """Return the wait in milliseconds that this many of a hundred are not longer than."""
    return sorted(waits)[len(waits) * percent // 100] * 1e3


def memory_kib(daemon: Daemon, what: str) -> int:
    """Return VmRSS, the memory of the daemon now, or VmHWM, the most that it ever was."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{daemon.process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def growth_kib_max() -> int:
    """Return how much memory the connections may take: all of them with all their buffers full at once."""
    waiting = (2 * READ_BYTES + UVLOOP_READ_BYTES) * 9 // 8 // 1024
    return CONNECTIONS_MAX * CONNECTION_KIB_MAX + WAITING_MAX * waiting


def prepare(daemon: Daemon) -> None:
    """Create the catalogue."""
    capacities = {f"good-{number}": 1_000_000 for number in range(GOOD)} | {"none": 1, "big": 1_000_000_000}
    capacities |= {f"other-{number}": 100 for number in range(EVENTS - len(capacities))}
    with daemon.connect() as control:
        for event, capacity in capacities.items():
            control.send(f'create "An evening of {event}" 2027-03-11T20:00:00Z {capacity} --id {event}\n'.encode())
        for event in capacities:
            assert control.read()["id"] == event
        assert control.ask("book none 1")["available"] == 0


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Let a storm come over good clients, once the calm has shown how fast they are answered."""
    (folder / "neighbor").mkdir()
    with running(folder, *FLAGS) as daemon, running(folder / "neighbor", *FLAGS) as neighbor:
        prepare(daemon)
        prepare(neighbor)
        files = CONNECTIONS_MAX + WAITING_MAX + TURNED_AWAY + DESCRIPTORS_RESERVED
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (files, files))
        base = memory_kib(daemon, "VmRSS")
        figures = uvloop.run(_weather(daemon, neighbor, chance, size))
        peak, bound = memory_kib(daemon, "VmHWM"), base + growth_kib_max()
        assert peak <= bound, f"memory grew to {peak} KiB, and its bound is {bound} KiB"
        logged = [line for line in daemon.lines if "open files are limited" in line]
        assert len(logged) == 1, f"that the files ran out was logged {len(logged)} times"
        assert not [line for line in daemon.lines if "Traceback" in line or "bug" in line], daemon.lines[-20:]
        after = memory_kib(daemon, "VmRSS")
        assert after - base <= KEPT_KIB_MAX, f"of the memory of the storm {after - base} KiB are kept"
    return {**figures, "KiB before": base, "KiB peak": peak, "KiB bound": bound, "KiB after": after}


async def _weather(daemon: Daemon, neighbor: Daemon, chance: random.Random, size: int) -> dict[str, float]:
    """Let good clients live through calm and storm, again if the storm was too much for them; see that all balances."""
    good_ones = [GoodOne(daemon.port, number) for number in range(GOOD)]
    over = asyncio.Event()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as elsewhere:
        async with asyncio.timeout(RUN_SECONDS_MAX * size), asyncio.TaskGroup() as tasks:
            for good_one in good_ones:
                tasks.create_task(good_one.live(over))
            for _ in range(TRIES):
                figures = await _storms(daemon, neighbor, good_ones, elsewhere, chance, size)
                if figures["p99 ratio"] <= RATIO_MAX:
                    break
            over.set()
    assert figures["p99 ratio"] <= RATIO_MAX, f"the storm delays good clients: {figures}"
    with daemon.connect() as control:
        until(lambda: control.ask("stats")["connections"] == 1)
        for event in control.events():
            assert event["sold"] + event["held"] + event["available"] == event["capacity"], event
        for good_one in good_ones:
            assert control.ask(f"show {good_one.event}")["sold"] == good_one.booked
        figures["requests"] = control.ask("stats")["requests"]
    return figures


async def _storms(
    daemon: Daemon, neighbor: Daemon, good_ones: list[GoodOne], elsewhere: Executor, chance: random.Random, size: int
) -> dict[str, float]:
    """Measure the good ones in a calm, in a storm at the neighbor's, and in a storm at their own daemon."""
    began = time.monotonic()
    await asyncio.sleep(CALM_SECONDS * size)
    calm = _waits(good_ones, began, time.monotonic())
    figures = {"calm p50 ms": percentile(calm, 50), "calm p99 ms": percentile(calm, 99)}
    for what, stricken in (("neighbor's storm", neighbor), ("storm", daemon)):
        storm = await asyncio.get_running_loop().run_in_executor(
            elsewhere, raise_storm, stricken.port, chance.getrandbits(64), STORM_SECONDS * size
        )
        # All that was hostile has ended, and the good ones are left.
        await asyncio.to_thread(_wait_for_connections, stricken, GOOD if stricken is daemon else 0)
        for name, endings in storm.endings.items():
            assert endings.keys() & KINDS[name].endings, f"{name}: none was served and ended as it should: {endings}"
        waits = _waits(good_ones, storm.began, storm.over)
        figures |= {f"{what} p50 ms": percentile(waits, 50), f"{what} p99 ms": percentile(waits, 99)}
    figures["p99 ratio"] = figures["storm p99 ms"] / figures["neighbor's storm p99 ms"]
    figures["p99 ratio to the calm"] = figures["storm p99 ms"] / figures["calm p99 ms"]
    figures["good requests"] = len(waits)
    figures["hostile connections"] = sum(sum(endings.values()) for endings in storm.endings.values())
    return figures


def _wait_for_connections(daemon: Daemon, count: int) -> None:
    until(lambda: connections(daemon) == count)


def _waits(good_ones: list[GoodOne], since: float, until: float) -> list[float]:
    return [wait for good_one in good_ones for at, wait in good_one.waits if since <= at < until]


def connections(daemon: Daemon) -> int:
    """Return how many connections the daemon serves, but the one that asks."""
    with daemon.connect() as control:
        served: int = control.ask("stats")["connections"] - 1
        return served
