"""Owns the bytes of a connection: input, output, back-pressure both ways, and a graceful close. Knows no requests."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from typing import cast

from ticketd.errors import TicketError
from ticketd.serving.accepting import UNIX, Accepted
from ticketd.wire.codec import error_line

log = logging.getLogger(__name__)

# With more unprocessed input than this, reading pauses.
READ_BYTES = 16 * 1024
# With more unsent output than this, the stream is congested.
WRITE_BYTES = 256 * 1024
# How long ``close_gracefully`` reads and drops input.
LINGER_SECONDS_MAX = 1.0


class Stream(asyncio.Protocol):
    """Takes over the transport of a StreamWriter. The owner awaits ``close_gracefully`` at the end.

    Subclasses override the callbacks ``on_input``, ``on_room`` and ``on_lost``.
    """

    def __init__(self, accepted: Accepted, write_seconds_max: float) -> None:
        self.transport = cast(asyncio.Transport, accepted.writer.transport)
        # Keep the StreamWriter alive: its finalizer closes the transport. Its protocol gets ``connection_lost``.
        self._writer: asyncio.StreamWriter | None = accepted.writer
        self._writer_protocol = self.transport.get_protocol()
        self._write_seconds_max = write_seconds_max
        self.address = accepted.address
        # Its name in the log.
        self.peer = accepted.peer
        self.input = bytearray()
        self.input_over = False
        self.congested = False
        self._reading_paused = False
        loop = asyncio.get_running_loop()
        self._input_ended: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.transport.set_protocol(self)
        self.transport.set_write_buffer_limits(WRITE_BYTES)

    def on_input(self) -> None:
        """Called when there is input, or no more will come."""

    def on_room(self) -> None:
        """Called when it is no longer congested."""

    def on_lost(self) -> None:
        """Called once, when the connection is lost."""

    def take_input(self) -> bytes:
        """Take up to READ_BYTES of the input."""
        chunk = bytes(self.input[:READ_BYTES])
        del self.input[:READ_BYTES]
        if self._reading_paused and len(self.input) <= READ_BYTES:
            self._reading_paused = False
            self.transport.resume_reading()
        return chunk

    def send(self, output: Sequence[bytes | memoryview]) -> None:
        """Write, or raise ConnectionResetError."""
        if self.transport.is_closing():
            # uvloop would raise RuntimeError.
            raise ConnectionResetError
        if len(output) == 1:
            self.transport.write(output[0])
        elif sum(map(len, output)) > WRITE_BYTES:
            # Many connections share the bytes of a long list: do not copy them.
            for data in output:
                self.transport.write(data)
        else:
            self.transport.write(b"".join(output))

    def give_up_unacknowledged_after(self, seconds: float) -> None:
        """Let TCP end the connection once something that was sent is not acknowledged for so long."""
        if self.address != UNIX:
            tcp = self.transport.get_extra_info("socket")
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1e3))

    async def close_gracefully(self, error: TicketError | None = None) -> None:
        """Send the error, if there is one, and close so that the client gets everything that was written.

        If input were unread, closing would make the kernel reset the connection, and the client could lose its last
        replies (RFC 1122, 4.2.2.13). So after an error, the sending side is closed first, and input is read and dropped
        for up to LINGER_SECONDS_MAX. Then the output gets up to ``write_seconds_max`` to be sent. If all of it
        has left, a client of TLS gets up to LINGER_SECONDS_MAX to say goodbye: one that does not read never does.
        """
        seconds = self._write_seconds_max
        with contextlib.suppress(OSError, RuntimeError):
            if error and not self.transport.is_closing():
                log.debug("ending peer=%s code=%s", self.peer, error.code)
                self.transport.write(error_line(error))
                # TLS has no half-closed connections.
                if self.transport.can_write_eof():
                    self.transport.write_eof()
                self.input_over = True
                if self._reading_paused:
                    self.transport.resume_reading()
                async with asyncio.timeout(LINGER_SECONDS_MAX):
                    await self._input_ended
        if error and not self.transport.can_write_eof() and not self.transport.get_write_buffer_size():
            seconds = LINGER_SECONDS_MAX
        self.transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.lost
        self.abort()

    def turn_out(self, error: TicketError) -> None:
        """Send the error, and close without a wait for the other side."""
        with contextlib.suppress(OSError, RuntimeError):
            if not self.transport.is_closing():
                self.transport.write(error_line(error))
        # The loop sends that first.
        asyncio.get_running_loop().call_soon(self.abort)

    def cut_off(self, unsent: int) -> None:
        """Close at once, since the client does not read. This many bytes are ``unsent``."""
        log.info("cut off peer=%s unsent_bytes=%d", self.peer, unsent)
        self.transport.abort()

    def abort(self) -> None:
        """Close at once, and drop unsent output."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        if self.input_over:
            return
        self.input += data
        if len(self.input) > READ_BYTES and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()
        self.on_input()

    def eof_received(self) -> bool:
        """Called by the transport. The sending side stays open for replies, except in TLS, which cannot do that."""
        self._end_input()
        self.on_input()
        return self.transport.can_write_eof()

    def pause_writing(self) -> None:
        """Called by the transport."""
        self.congested = True

    def resume_writing(self) -> None:
        """Called by the transport."""
        self.congested = False
        self.on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport, once, as its last call."""
        self._end_input()
        if not self.lost.done():
            self.lost.set_result(None)
        self._writer_protocol.connection_lost(None)
        self._writer = None
        self.on_lost()

    def _end_input(self) -> None:
        self.input_over = True
        if not self._input_ended.done():
            self._input_ended.set_result(None)
