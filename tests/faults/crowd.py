"""A crowd that does all that clients can do, to daemons that are killed again and again; its history is proved right.

Connections break in the middle of requests and of replies, and what was not answered is asked again with the same ids.
"""

import asyncio
import random
import shutil
import socket
import sqlite3
import struct
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import msgspec
import uvloop

from tests.daemon import running, write_events
from tests.faults.checker import check
from tests.faults.history import CHANGES, NOT_DONE, Operation, Row

CAPACITIES = (1_500, 100, 100_000)
CLIENTS = 60
KILLS_PER_SIZE = 10
KILLS_PER_LEDGER = 20
ANSWERS_PER_LIFE = (300, 1_000)
# Of most holds.
HOLD_SECONDS = 1
WATCH_SECONDS_MAX = 0.5
MEETING_SECONDS_MAX = 60.0
REPLY_BYTES_MAX = 1 << 20
REMEMBERED_MAX = 20_000
# What is to be heard before it is over, so that it was not too quiet a crowd.
HAPPENS = frozenset(
    [
        "sold_out",
        "hold_expired",
        "booking_conflict",
        "booking_not_found",
        "ticket_not_found",
        "capacity_below_sold",
        "already_redeemed",
        "already_confirmed",
        "already_released",
        "already_cancelled",
    ]
)
# What an error says that ends a connection: what was not answered then was not done.
ENDINGS = ("shutting_down", "too_many_connections", "idle_timeout")

# How many tickets of a booking are cancelled: those of its changes, whose fourth column they are.
_CANCELLED = "(SELECT total(json_array_length(value, '$[3]')) FROM json_each(changes))"
# What must not be found in a ledger.
_IMBALANCES = {
    "an event has other counts than its bookings": f"""
        SELECT id FROM events
        WHERE sold <> sold_elsewhere
            + (SELECT total(json_array_length(tickets) - {_CANCELLED}) FROM bookings WHERE event = events.id)
        OR held <> (SELECT total(quantity) FROM bookings WHERE event = events.id AND state = 'held')
        OR capacity <> available + held + sold""",
    "a booking has not as many tickets as it should, or one twice": f"""
        SELECT id FROM bookings
        WHERE (SELECT count(DISTINCT value) FROM json_each(tickets)) <> json_array_length(tickets)
        OR json_array_length(tickets) <> iif(state IN ('confirmed', 'cancelled'), quantity, 0)
        OR (state = 'cancelled') <> ({_CANCELLED} = quantity)""",
    "what was cancelled is not of the booking, or was cancelled twice": """
        SELECT bookings.id FROM bookings, json_each(changes) AS change, json_each(change.value, '$[3]') AS gone
        GROUP BY bookings.id, gone.value
        HAVING count(*) > 1 OR gone.value NOT IN (SELECT value FROM json_each(tickets))""",
    "what was redeemed is not of a booking, or was cancelled": """
        SELECT * FROM redemptions LEFT JOIN bookings ON id = booking
        WHERE NOT coalesce(ticket IN (SELECT value FROM json_each(tickets)), false)
        OR instr(coalesce(changes, ''), ticket)""",
    "a booking is of no event": "SELECT id FROM bookings WHERE event NOT IN (SELECT id FROM events)",
    "the file is damaged": "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
}


class Crowd:
    """What the clients know of each other, and the history of all they asked. ``ports`` are those that answer."""

    def __init__(self, chance: random.Random, events: Sequence[Row]) -> None:
        self.chance = chance
        self.events = events
        self.history: list[Operation] = []
        self.ports: list[int] = []
        # Where connections broke that no client closed.
        self.broken: set[int] = set()
        self.over = False
        self._missing = 0
        self._enough = asyncio.Event()
        self.connections = count()
        # What was done last: enough to be found again by others, and for holds to run out before they are found.
        self.bookings: deque[str] = deque(maxlen=REMEMBERED_MAX)
        self.tickets: deque[tuple[str, list[str]]] = deque(maxlen=REMEMBERED_MAX)
        self.done: deque[Row] = deque(maxlen=REMEMBERED_MAX)
        self.clients = [Client(self, f"c{number}") for number in range(CLIENTS)]
        # Whoever organizes an event is the only one to amend it: of an amendment there is no memory but the event.
        for client, event in zip(self.clients, events, strict=False):
            client.organizes = event["id"]

    def meet(self, ports: Sequence[int], story: Callable[[], Awaitable[None]]) -> None:
        """Let all ask this and that while the story happens; then it is over."""
        self.ports = list(ports)
        self.over = False
        uvloop.run(self._meet(story))

    async def hear(self, answers: int) -> None:
        """Wait until so many more answers were heard."""
        self._missing = answers
        self._enough.clear()
        async with asyncio.timeout(MEETING_SECONDS_MAX):
            await self._enough.wait()

    def settle(self, ports: Sequence[int]) -> None:
        """Let all ask again what was not answered; then read everything that there is."""
        self.ports = list(ports)
        self.over = True
        uvloop.run(self._settle())

    async def _settle(self) -> None:
        async with asyncio.timeout(MEETING_SECONDS_MAX):
            await asyncio.gather(*(client.live() for client in self.clients))
            assert not any(client.unsettled for client in self.clients), "what was not answered is answered in the end"
            await self.clients[0].read_all()

    async def _meet(self, story: Callable[[], Awaitable[None]]) -> None:
        self._enough = asyncio.Event()
        async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as living:
            for client in self.clients:
                living.create_task(client.live())
            await story()
            self.over = True
            patience.reschedule(asyncio.get_running_loop().time() + MEETING_SECONDS_MAX)

    def count_answer(self) -> None:
        """Note that somebody was answered."""
        self._missing -= 1
        if self._missing == 0:
            self._enough.set()


class Client:
    """Somebody with one connection at a time."""

    def __init__(self, crowd: Crowd, name: str) -> None:
        self._crowd = crowd
        self._chance = crowd.chance
        self._name = name
        self._numbers = count()
        self._port = 0
        self.organizes: str | None = None
        self.unsettled: list[Row] = []

    async def live(self) -> None:
        """Ask, first of all what was not answered, until it is over; connect again when the connection breaks."""
        while self._crowd.ports and self._has_more():
            # What was not answered may still be queued there, and another daemon knows nothing of that.
            if not self.unsettled or self._port not in self._crowd.ports:
                self._port = self._chance.choice(self._crowd.ports)
            try:
                connection = await connect(self._crowd, self._name, self._port)
            except OSError:
                if self._port in self._crowd.ports:
                    self._crowd.ports.remove(self._port)
                continue
            with closing(connection):
                await self._converse(connection)

    async def read_all(self) -> None:
        """Read all events, and all bookings page by page; again if holds ran out meanwhile."""
        with closing(await connect(self._crowd, self._name, self._crowd.ports[0])) as connection:
            events = None
            while events != (events := (await self._read(connection, "list"))["events"]):
                page = await self._read(connection, "bookings")
                while page.get("more"):
                    page = await self._read(connection, "bookings", after=page["bookings"][-1]["id"])

    async def _read(self, connection: "Connection", cmd: str, **more: str) -> Row:
        [operation] = await connection.ask([{"cmd": cmd, **more}])
        assert operation.reply
        return operation.reply

    def _has_more(self) -> bool:
        return bool(self.unsettled) or not self._crowd.over

    async def _converse(self, connection: "Connection") -> None:
        while not connection.broken and self._has_more():
            if not self.unsettled and self._chance.random() < 0.02:
                await connection.watch(self._chance.randint(1, 5))
                continue
            settling = bool(self.unsettled)
            requests = self.unsettled or self._wishes()
            # Settling is not disturbed, so that it comes to an end.
            breaks = not settling and self._chance.random() < 0.03
            operations = await (connection.ask_and_break(requests) if breaks else connection.ask(requests))
            # That it was not done this time does not tell what came of it the first time.
            self.unsettled = [
                operation.request
                for operation in operations
                if operation.cmd in CHANGES and (operation.unknown or (settling and operation.code in NOT_DONE))
            ]
            # Others do not learn what is known of a batch in part: somebody might cancel an unsettled confirm.
            if not self.unsettled:
                for operation in operations:
                    self._hear(operation.request, operation.reply or {})

    def _hear(self, request: Row, reply: Row) -> None:
        if reply.get("reply") == "booking" and request["cmd"] != "show":
            self._crowd.bookings.append(reply["id"])
            self._crowd.done.append(request)
            if reply["tickets"]:
                self._crowd.tickets.append((reply["id"], reply["tickets"]))

    def _wishes(self) -> list[Row]:
        """Return what to ask next: one request or several at once."""
        choose = self._chance.choice
        if self.organizes and self._chance.random() < 0.2:
            return [self._amendment(self.organizes)]
        if self._chance.random() < 0.5:
            return self._purchase()
        return [self._wish() for _ in range(choose([1, 1, 1, 2, 5]))]

    def _purchase(self) -> list[Row]:
        booking = f"{self._name}{self._chance.choice('-.')}{next(self._numbers)}"
        event = self._chance.choices(self._crowd.events, [5, 3, 3])[0]["id"]
        quantity = self._chance.choice([1, 2, 3, 4, 10])
        book = {"cmd": "book", "event": event, "quantity": quantity, "booking": booking}
        hold = {**book, "cmd": "hold", "seconds": self._chance.choice([HOLD_SECONDS, HOLD_SECONDS, 2, 300])}
        confirm, release, cancel = ({"cmd": cmd, "booking": booking} for cmd in ("confirm", "release", "cancel"))
        show = {"cmd": "show", "id": event}
        return self._chance.choice(
            [
                [book],
                [book, show],
                [book, book],
                [book, {**book, "quantity": quantity + 1}],
                [hold],
                [hold],
                [hold, show],
                [hold, confirm],
                [hold, confirm, confirm],
                [hold, release],
                [hold, release, confirm],
                [hold, cancel, release],
                [{**book, "quantity": 1, "booking": f"{booking}.{turn}"} for turn in range(20)],
            ]
        )

    def _wish(self) -> Row:
        choose = self._chance.choice
        crowd = self._crowd
        cmd = choose(["confirm", "confirm", "release", "cancel", "cancel", "redeem", "redeem", "again", "show", "read"])
        if cmd == "again" and crowd.done:
            return choose(crowd.done)
        if cmd in ("confirm", "release") and crowd.bookings:
            return {"cmd": cmd, "booking": choose(crowd.bookings)}
        if cmd in ("cancel", "redeem", "show") and crowd.tickets:
            booking, tickets = choose(crowd.tickets)
            if cmd != "cancel" and self._chance.random() < 0.1:
                # Of a booking that there is, a ticket that never was.
                never = f"{booking}.{self._chance.randbytes(6).hex()}"
                return {"cmd": "redeem", "ticket": never} if cmd == "redeem" else {"cmd": "show", "id": never}
            match cmd, choose([True, False]):
                case "redeem", _:
                    return {"cmd": "redeem", "ticket": choose(tickets)}
                case "show", of_booking:
                    return {"cmd": "show", "id": booking if of_booking else choose(tickets)}
                case "cancel", True:
                    return {"cmd": "cancel", "booking": booking}
                case _:
                    some = self._chance.sample(tickets, self._chance.randint(1, len(tickets)))
                    return {"cmd": "cancel", "booking": booking, "tickets": some}
        return self._reading()

    def _reading(self) -> Row:
        choose = self._chance.choice
        booking, _ = choose(self._crowd.tickets or [("-", [])])
        limit = self._chance.randint(1, 10)
        return choose(
            [
                {"cmd": "list"},
                {"cmd": "show", "id": choose(self._crowd.events)["id"]},
                {"cmd": "bookings", "after": booking, "limit": limit},
                {"cmd": "bookings", "after": booking},
            ]
        )

    def _amendment(self, event: str) -> Row:
        capacity = CAPACITIES[int(event) - 1]
        return {"cmd": "amend", "event": event, "capacity": self._chance.randint(capacity // 2, capacity * 3 // 2)}


async def connect(crowd: Crowd, name: str, port: int) -> "Connection":
    """Open a connection."""
    return Connection(crowd, name, port, *await asyncio.open_connection("127.0.0.1", port, limit=REPLY_BYTES_MAX))


class Connection:
    """A connection that puts all that is asked and answered into the history."""

    def __init__(
        self, crowd: Crowd, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._crowd = crowd
        self._name = name
        self._port = port
        self._number = next(crowd.connections)
        self._reader = reader
        self._writer = writer
        self.broken = False

    async def ask(self, requests: Sequence[Row]) -> list[Operation]:
        """Send requests at once, and hear the replies, as many as come."""
        operations = self._send(requests)
        for operation in operations:
            await self._hear(operation)
        last = next((operation.code for operation in reversed(operations) if operation.reply), None)
        for operation in operations:
            if operation.reply is None and last in ENDINGS:
                operation.reply = {"reply": "error", "code": last}
        return operations

    async def ask_and_break(self, requests: Sequence[Row]) -> list[Operation]:
        """Send requests at once, and break the connection before all is answered."""
        chance = self._crowd.chance
        operations = self._send(requests)
        for operation in operations[: chance.randint(0, len(requests) - 1)]:
            await self._hear(operation)
        self.broken = True
        if self._writer.is_closing():
            return operations
        match chance.choice(["close", "reset", "half a line"]):
            case "reset":
                raw: socket.socket = self._writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()
            case "half a line":
                line = msgspec.json.encode(chance.choice(self._crowd.done or requests))
                self._write(line[: chance.randint(1, len(line) - 1)])
        return operations

    async def watch(self, lines: int) -> None:
        """Watch all events for so many lines, and not longer than WATCH_SECONDS_MAX."""
        request = {"cmd": "watch"}
        invoked = time.monotonic()
        self._write(b"watch\n")
        try:
            async with asyncio.timeout(WATCH_SECONDS_MAX):
                for _ in range(lines):
                    operation = self._note(request, invoked)
                    await self._hear(operation)
                    if operation.reply and operation.reply["reply"] == "pong":
                        # A heartbeat.
                        operation.request = {"cmd": "ping"}
        except TimeoutError:
            pass
        self._write(b"ping\n")
        while not self.broken:
            operation = self._note(request, invoked)
            await self._hear(operation)
            if operation.reply and operation.reply["reply"] == "pong":
                operation.request = {"cmd": "ping"}
                if not operation.reply.get("heartbeat"):
                    break

    def close(self) -> None:
        """Close the connection, if it is still open."""
        self._writer.close()

    def _send(self, requests: Sequence[Row]) -> list[Operation]:
        now = time.monotonic()
        operations = [self._note(request, now) for request in requests]
        self._write(b"".join(msgspec.json.encode(request) + b"\n" for request in requests))
        return operations

    def _note(self, request: Row, invoked: float) -> Operation:
        operation = Operation(self._name, self._port, self._number, request, invoked)
        self._crowd.history.append(operation)
        return operation

    def _write(self, data: bytes) -> None:
        # Of a connection that was reset uvloop says that it cannot be written to.
        try:
            self._writer.write(data)
        except RuntimeError:
            self.broken = True

    async def _hear(self, operation: Operation) -> None:
        if self.broken:
            return
        try:
            line = await self._reader.readline()
        except OSError:
            line = b""
        if line.endswith(b"\n"):
            operation.answered = time.monotonic()
            operation.reply = msgspec.json.decode(line)
            self._crowd.count_answer()
        else:
            self.broken = True
            self._crowd.broken.add(self._port)


def check_ledger(folder: Path) -> None:
    """Check that the counts of a ledger agree, in a copy, so that it is the daemon that recovers after a crash."""
    copy = folder / "copy"
    copy.mkdir()
    for file in folder.glob("events.db*"):
        shutil.copy(file, copy)
    with closing(sqlite3.connect(copy / "events.db")) as database:
        for what, select in _IMBALANCES.items():
            found = database.execute(select).fetchmany(3)
            assert not found, f"{what}: {found}"
    shutil.rmtree(copy)


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Kill daemons in the middle of a crowd, ``size`` times KILLS_PER_SIZE, and prove the histories of the ledgers."""
    figures: Counter[str] = Counter()
    kills = size * KILLS_PER_SIZE
    for done in range(0, kills, KILLS_PER_LEDGER):
        ledger = folder / f"ledger-{done}"
        ledger.mkdir()
        crowd = record(chance, min(KILLS_PER_LEDGER, kills - done), ledger)
        check(crowd.history, crowd.events)
        figures.update(figures_of(crowd.history))
        shutil.rmtree(ledger)
    return {"kills": kills, **figures}


def record(chance: random.Random, kills: int, folder: Path) -> Crowd:
    """Return a crowd with its whole history on one ledger, whose daemon was killed so many times."""
    write_events(folder, *CAPACITIES)
    with running(folder) as daemon, daemon.connect() as connection:
        events = connection.ask("list")["events"]
        assert [event["available"] for event in events] == list(CAPACITIES)
    crowd = Crowd(chance, events)
    for _ in range(kills):
        with running(folder) as daemon:
            crowd.meet([daemon.port], partial(_hear_and, crowd, daemon.process.kill))
        check_ledger(folder)
    # Most holds run out before the last life, or else it would be long: no answer tells that one has.
    time.sleep(HOLD_SECONDS)
    with running(folder) as daemon:
        crowd.meet([daemon.port], partial(_hear_all_and, crowd, daemon.process.terminate))
        assert daemon.wait() == 0
    with running(folder) as daemon:
        crowd.settle([daemon.port])
        assert daemon.end() == 0
    check_ledger(folder)
    return crowd


async def _hear_and(crowd: Crowd, end: Callable[[], None]) -> None:
    """End a daemon in the middle of everything."""
    await crowd.hear(crowd.chance.randint(*ANSWERS_PER_LIFE))
    end()


async def _hear_all_and(crowd: Crowd, end: Callable[[], None]) -> None:
    """End a daemon once everything has happened."""
    await _hear_and(crowd, nothing)
    while not {operation.code for operation in crowd.history} >= HAPPENS:
        await crowd.hear(ANSWERS_PER_LIFE[0])
    end()


def nothing() -> None: ...


def figures_of(operations: Sequence[Operation]) -> Counter[str]:
    """Return how often what came of requests."""
    figures = Counter(operation.code or (operation.reply or {}).get("reply", "unanswered") for operation in operations)
    figures["operations"] = len(operations)
    figures["changes"] = sum(operation.changed for operation in operations)
    figures["replayed"] = sum(operation.replayed for operation in operations)
    return figures
