"""One connection as the loop sees it: bytes in, bytes out, deadlines, and a good end.

What a connection says is one coroutine, its conversation, which waits for one thing at a time: input, replies, a turn,
or room for more output. It is no task, and what it waits for is no future: whoever has it calls ``resume``, and the
conversation goes on at once. A stream and a task would take two rounds of the loop for each request, and more time
than the request itself.
"""

import asyncio
import contextlib
import logging
import socket
import types
from collections.abc import Callable, Coroutine, Generator
from enum import Enum
from typing import Any, cast

from ticketd import protocol
from ticketd.config import Limits
from ticketd.deadline import Deadline
from ticketd.errors import TicketError

log = logging.getLogger(__name__)

# So much is answered before more is read. Past that a connection is not read while its requests wait.
READ_BYTES = 16 * 1024
# A client that takes no replies is asked for no more requests once so much waits for it.
WRITE_BYTES = 256 * 1024
# What may wait to be taken by a watcher before it is left behind.
WATCH_BYTES = 64 * 1024
LINGER_SECONDS_MAX = 1.0


class _For(Enum):
    """What a conversation waits for that its connection itself brings."""

    INPUT = 1
    ROOM = 2


@types.coroutine
def pause() -> Generator[None, Any, Any]:
    """Wait, in a conversation, until it is resumed, and return what with."""
    return (yield)


class Connection(asyncio.Protocol):
    """Takes over the transport of a stream. ``converse`` is awaited once at the most, and ``farewell`` at the end."""

    def __init__(self, writer: asyncio.StreamWriter, limits: Limits) -> None:
        self._transport = cast(asyncio.Transport, writer.transport)
        # A stream that nobody holds closes its transport. What it stands on must hear of the end, to let go of it.
        self._writer: asyncio.StreamWriter | None = writer
        self._streams = self._transport.get_protocol()
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.peer = _peer_name(writer)
        self._input = bytearray()
        self._input_over = False
        self._full = False
        self._congested = False
        self._deadline = Deadline(self._deadline_passed)
        self._line_pending = False
        self._unsent = 0
        self._taken_at = 0.0
        self._conversation: Coroutine[None, Any, None] | None = None
        self._waits: _For | None = None
        self._interruption: TicketError | None = None
        self._ended: asyncio.Future[None] | None = None
        self._input_ended: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(WRITE_BYTES)

    async def converse(self, conversation: Coroutine[None, Any, None]) -> None:
        """Let a conversation run until it ends, and raise what it raises: TicketError, OSError, or a bug."""
        self._conversation = conversation
        self._ended = ended = self._loop.create_future()
        try:
            self._go_on(conversation.send, None)
            await ended
        finally:
            self._conversation = self._ended = None
            conversation.close()

    def resume(self, with_what: Any = None) -> None:
        """Let the conversation go on with the replies, or the turn, that it has waited for. Raises nothing.

        If it has ended meanwhile, nothing is done. What it does not wait for would be taken for something else.
        """
        if self._waits is not None:
            log.error("a bug: peer=%s was resumed while it waits for %s", self.peer, self._waits.name)
        elif self._conversation:
            self._go_on(self._conversation.send, with_what)

    def _go_on(self, how: Callable[[Any], object], with_what: Any) -> None:
        try:
            how(with_what)
        except StopIteration:
            self._end(None)
        except Exception as error:
            self._end(error)

    def interrupt(self, error: TicketError) -> None:
        """End the conversation with an error. What it has read before this is still answered first."""
        self._interruption = error
        if self._waits is _For.INPUT:
            self._throw(error)

    async def read(self, line_began: float | None, *, patiently: bool = False) -> bytes:
        """Return what has come, at most READ_BYTES, and b"" at the end of the input.

        ``line_began`` is when the line began that is not complete, if there is one, by the clock of the loop. Raises
        TicketError when the deadline of that line, or of idle connections, has passed, or after ``interrupt``. There is
        no deadline for who waits ``patiently``. Raises ConnectionResetError.
        """
        if self._interruption:
            raise self._interruption
        self._see_that_it_is_there()
        if self._input:
            return self._take()
        if self._input_over:
            return b""
        self._line_pending = line_began is not None
        if line_began is not None:
            self._deadline.set(line_began + self._limits.frame_seconds_max)
        elif not patiently:
            self._deadline.set(self._loop.time() + self._limits.idle_seconds_max)
        return cast(bytes, await self._wait_for(_For.INPUT))

    async def write(self, frames: list[bytes]) -> None:
        """Write frames, each with its newline; wait if the client has not taken what was written before.

        Whoever takes nothing for ``write_seconds_max`` is cut off. Raises ConnectionResetError.
        """
        self._see_that_it_is_there()
        if len(frames) == 1 and len(frames[0]) > WRITE_BYTES:
            # A long list is shared by all who have asked for it, not copied for each.
            self._transport.write(frames[0])
            self._transport.write(b"\n")
        else:
            frames.append(b"")
            self._transport.write(b"\n".join(frames))
        if self._congested:
            self._unsent = self._transport.get_write_buffer_size()
            self._deadline.set(self._loop.time() + self._limits.write_seconds_max)
            await self._wait_for(_For.ROOM)

    async def _wait_for(self, what: _For) -> Any:
        self._waits = what
        try:
            return await pause()
        finally:
            self._waits = None
            self._deadline.clear()

    def begin_pushing(self) -> None:
        """Get ready to ``push``. Raises ConnectionResetError."""
        self._see_that_it_is_there()
        # A watcher may be silent for days: only the network can tell that it has gone.
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._unsent, self._taken_at = 0, self._loop.time()

    def push(self, data: bytes) -> bool:
        """Write what a watcher is told, and return True, unless it has not taken what it was told before."""
        if self._transport.is_closing():
            return True
        unsent = self._transport.get_write_buffer_size()
        now = self._loop.time()
        if unsent <= WATCH_BYTES:
            self._transport.write(data)
            self._unsent, self._taken_at = unsent + len(data), now
            return True
        if unsent < self._unsent:
            self._unsent, self._taken_at = unsent, now
        elif now - self._taken_at > self._limits.write_seconds_max:
            self._cut_off(unsent)
        return False

    async def farewell(self, error: TicketError | None = None) -> None:
        """Close so that the client gets what was written, with an error as its last line if there is one.

        Closing with input unread would make the kernel reset the connection, and the client could lose its last
        replies. So the sending side is ended first, and for a moment (LINGER_SECONDS_MAX) what still comes is read and
        dropped. At most ``write_seconds_max`` more are spent until the client has taken what was written.
        """
        self._deadline.close()
        with contextlib.suppress(OSError, RuntimeError):
            if error and not self._transport.is_closing():
                log.debug("ending peer=%s code=%s", self.peer, error.code)
                self._transport.write(protocol.encode(protocol.error_reply(error)) + b"\n")
                self._transport.write_eof()
                self._input_over = True
                if self._full:
                    self._transport.resume_reading()
                async with asyncio.timeout(LINGER_SECONDS_MAX):
                    await self._input_ended
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.write_seconds_max):
                await self._lost
        self.abort()

    def abort(self) -> None:
        """Close at once, whatever was not taken."""
        self._deadline.close()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self._waits is _For.INPUT and len(data) <= READ_BYTES:
            self._bring(data)
            return
        if self._input_over:
            return
        self._input += data
        if len(self._input) > READ_BYTES and not self._full:
            self._full = True
            self._transport.pause_reading()
        if self._waits is _For.INPUT:
            self._bring(self._take())

    def eof_received(self) -> bool:
        """Called by the transport. It stays open: what was asked is answered still."""
        self._input_is_over()
        if self._waits is _For.INPUT:
            self._bring(b"")
        return True

    def pause_writing(self) -> None:
        """Called by the transport."""
        self._congested = True

    def resume_writing(self) -> None:
        """Called by the transport."""
        self._congested = False
        if self._waits is _For.ROOM:
            self._bring(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport, once, after all else."""
        self._input_is_over()
        if not self._lost.done():
            self._lost.set_result(None)
        self._streams.connection_lost(None)
        self._writer = None
        if self._waits:
            self._throw(ConnectionResetError())

    def _take(self) -> bytes:
        chunk = bytes(self._input[:READ_BYTES])
        del self._input[:READ_BYTES]
        if self._full and len(self._input) <= READ_BYTES:
            self._full = False
            self._transport.resume_reading()
        return chunk

    def _input_is_over(self) -> None:
        self._input_over = True
        if not self._input_ended.done():
            self._input_ended.set_result(None)

    def _bring(self, what: bytes | None) -> None:
        assert self._conversation
        self._waits = None
        self._go_on(self._conversation.send, what)

    def _throw(self, error: Exception) -> None:
        assert self._conversation
        self._waits = None
        self._go_on(self._conversation.throw, error)

    def _end(self, error: Exception | None) -> None:
        self._conversation = None
        if self._ended is None or self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    def _see_that_it_is_there(self) -> None:
        # It may have gone while its requests waited. uvloop's transports answer then as if this were a bug.
        if self._transport.is_closing():
            raise ConnectionResetError

    def _deadline_passed(self) -> None:
        if self._waits is _For.ROOM:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                # Slow, but taking its replies.
                self._unsent = unsent
                self._deadline.set(self._loop.time() + self._limits.write_seconds_max)
            else:
                self._cut_off(unsent)
        elif self._line_pending:
            seconds = self._limits.frame_seconds_max
            self.interrupt(TicketError("idle_timeout", f"a line must end within {seconds:g} s of its first byte"))
        else:
            seconds = self._limits.idle_seconds_max
            self.interrupt(TicketError("idle_timeout", f"nothing came for {seconds:g} s; connect again"))

    def _cut_off(self, unsent: int) -> None:
        log.info("cut off peer=%s unsent_bytes=%d", self.peer, unsent)
        self._transport.abort()


def _peer_name(writer: asyncio.StreamWriter) -> str:
    """Return host and port of the other side as the log tells them."""
    try:
        host, port = writer.get_extra_info("peername")[:2]
    except (AttributeError, OSError, TypeError):
        # It has gone already; uvloop raises AttributeError then.
        return "unknown"
    return f"{host}:{port}"
