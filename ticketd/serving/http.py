"""Answers GET and HEAD over HTTP, for those who watch the daemon. Knows no pages.

A connection gets one answer, and is closed. What a client may take from others is bounded: its head, its time, and how
many are connected at once.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import NamedTuple

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 8 * 1024
CONNECTION_SECONDS_MAX = 5.0
# They come out of the descriptors that the server of the sale leaves to others.
CONNECTIONS_MAX = 8
_DROPPED_BYTES = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Answer(NamedTuple):
    """What answers a request: its status, the type of its body, and the body."""

    status: int
    kind: str
    body: bytes


class HttpServer:
    """Answers GET for these pages, each with what its function returns, and HEAD without the body."""

    def __init__(self, pages: Mapping[str, Callable[[], Answer]]) -> None:
        self._pages = pages
        self._listeners: list[asyncio.Server] = []
        self._connections = 0

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Answer on these sockets. Raises OSError."""
        for each in sockets:
            self._listeners.append(await asyncio.start_server(self._serve, sock=each, limit=HEAD_BYTES_MAX))

    def close(self) -> None:
        """Answer nobody any more."""
        for listener in self._listeners:
            listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            if self._connections >= CONNECTIONS_MAX:
                return
            self._connections += 1
            try:
                # A client may be gone at any time.
                with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(CONNECTION_SECONDS_MAX):
                        await self._answer(reader, writer)
            finally:
                self._connections -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(_END_OF_HEAD)
        except asyncio.LimitOverrunError:
            head, answer = b"", Answer(431, TEXT, b"the head of a request may have %d bytes\n" % HEAD_BYTES_MAX)
        else:
            answer = self._answer_to(head.partition(b"\r\n")[0])
        if writer.is_closing():
            # uvloop would raise RuntimeError.
            return
        allow = "Allow: GET, HEAD\r\n" if answer.status == 405 else ""
        writer.write(
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\nContent-Type: {answer.kind}\r\n{allow}"
            f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n".encode()
            + (b"" if head.startswith(b"HEAD ") else answer.body)
        )
        writer.write_eof()
        # Unread input would make the kernel drop the answer.
        while await reader.read(_DROPPED_BYTES):
            pass

    def _answer_to(self, line: bytes) -> Answer:
        """Return what answers a request with this first line."""
        match line.split(b" "):
            case [method, target, version] if version.startswith(b"HTTP/1."):
                path = target.partition(b"?")[0].decode(errors="replace")
            case _:
                return Answer(400, TEXT, b"this is not HTTP/1\n")
        if path not in self._pages:
            return Answer(404, TEXT, f"there are {', '.join(self._pages)}\n".encode())
        if method not in (b"GET", b"HEAD"):
            return Answer(405, TEXT, b"only GET and HEAD are answered\n")
        try:
            return self._pages[path]()
        except Exception:
            log.exception("a bug in %s", path)
            return Answer(500, TEXT, b"the daemon has a bug; its log tells more\n")
