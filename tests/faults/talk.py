"""A connection of somebody in a crowd, which puts all that is asked and answered into the history."""

import asyncio
import random
import socket
import struct
import time
from collections.abc import Sequence
from itertools import count
from typing import Protocol

import msgspec

from tests.faults.history import Operation, Row, contradiction

WATCH_SECONDS_MAX = 0.5
REPLY_BYTES_MAX = 1 << 20
# How many of the requests have a tag.
TAGGED_SHARE = 0.3


class Record(Protocol):
    """Where it is put down what all ask, and where connections ``broke`` that no client closed."""

    chance: random.Random
    history: list[Operation]
    broken: set[int]
    connections: "count[int]"

    def count_answer(self) -> None:
        """Note that somebody was answered."""
        ...


async def connect(crowd: Record, name: str, port: int) -> "Connection":
    """Open a connection."""
    return Connection(crowd, name, port, *await asyncio.open_connection("127.0.0.1", port, limit=REPLY_BYTES_MAX))


class Connection:
    """A connection that puts all that is asked and answered into the history."""

    def __init__(
        self, crowd: Record, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._crowd = crowd
        self._name = name
        self._port = port
        self._number = next(crowd.connections)
        self._reader = reader
        self._writer = writer
        self._since = 0
        self.broken = False

    async def ask(self, requests: Sequence[Row], lines: Sequence[bytes] | None = None) -> list[Operation]:
        """Send requests at once, as JSON or these lines, and hear the replies, as many as come."""
        operations = self._send(requests, lines)
        ending: Row | None = None
        for operation in operations:
            await self._hear(operation)
            if ending:
                # What was not answered before an error that nobody asked for was not done.
                if operation.reply:
                    raise contradiction("this came after the last line", operation)
                operation.reply = {"reply": "error", "code": ending["code"]}
            elif operation.reply and operation.reply.get("unasked"):
                ending = operation.reply
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
                line = msgspec.json.encode(chance.choice(requests))
                self._write(line[: chance.randint(1, len(line) - 1)])
        return operations

    async def watch(self, lines: int, booking: str | None = None, seconds_max: float = WATCH_SECONDS_MAX) -> None:
        """Watch all events, or a booking, for so many lines, and not longer than that."""
        request = {"cmd": "watch", **({"booking": booking} if booking else {})}
        invoked, self._since = time.monotonic(), wall_clock()
        self._write(msgspec.json.encode(request) + b"\n")
        try:
            async with asyncio.timeout(seconds_max):
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

    def _send(self, requests: Sequence[Row], lines: Sequence[bytes] | None = None) -> list[Operation]:
        now, self._since = time.monotonic(), wall_clock()
        operations = [self._note(request, now) for request in requests]
        if lines is None:
            for number, operation in enumerate(operations):
                if self._crowd.chance.random() < TAGGED_SHARE:
                    # Sent again, a request has another one.
                    operation.tag = f"{self._number}-{now}-{number}"
            lines = [_line(operation) for operation in operations]
        self._write(b"".join(line + b"\n" for line in lines))
        return operations

    def _note(self, request: Row, invoked: float) -> Operation:
        operation = Operation(self._name, self._port, self._number, request, invoked, since=self._since)
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
            operation.answered, operation.until = time.monotonic(), wall_clock()
            reply: Row = msgspec.json.decode(line)
            if reply.pop("tag", None) != (None if reply.get("unasked") else operation.tag):
                raise contradiction(f"this has not the tag of its request: {line!r}", operation)
            operation.reply = reply
            self._crowd.count_answer()
        else:
            self.broken = True
            self._crowd.broken.add(self._port)


def _line(operation: Operation) -> bytes:
    return msgspec.json.encode(operation.request | ({"tag": operation.tag} if operation.tag else {}))


def wall_clock() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
