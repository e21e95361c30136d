"""Streams from the daemon to an asyncio loop: a request with many replies, on a connection of its own."""

import asyncio
from collections.abc import AsyncGenerator

from ticketctl.async_link import open_transport
from ticketctl.link import CannotOpenError, Token, Where
from ticketctl.protocol import (
    RECEIVE_BYTES,
    SILENCE_SECONDS_MAX,
    Conversation,
    NoReply,
    broken,
    closed_without_reply,
    too_late,
)
from ticketd.wire.replies import PongReply, Reply
from ticketd.wire.requests import Ping, Request


async def stream(
    where: Where, token: Token | None, seconds_max: float, request: Request
) -> AsyncGenerator[Reply, None]:
    """Yield the replies to a request that has many. Raises NoReply at the end.

    The daemon may have nothing to say until something changes, so a ``ping`` goes first: it has to be answered within
    ``seconds_max``. After that, a daemon that is there says so every 15 seconds; no ``pong`` is yielded. If the
    caller is slower than the changes, the daemon sends fewer.
    """
    conversation: Conversation[None] = Conversation(where, token)
    for each in (Ping(), request):
        conversation.add(each, None)
    reader = asyncio.StreamReader(RECEIVE_BYTES)
    transport: asyncio.Transport | None = None
    deadline, seconds = asyncio.get_running_loop().time() + seconds_max, seconds_max
    try:
        async with asyncio.timeout_at(deadline):
            transport = await open_transport(where, token, lambda: asyncio.StreamReaderProtocol(reader))
        while len(conversation):
            transport.write(conversation.take())
            async with asyncio.timeout_at(deadline):
                data = await reader.read(RECEIVE_BYTES)
            if not data:
                raise closed_without_reply(where)
            for _, reply in conversation.receive(data):
                if not isinstance(reply, PongReply):
                    yield reply
                seconds = SILENCE_SECONDS_MAX
                deadline = asyncio.get_running_loop().time() + seconds
    except TimeoutError:
        raise too_late(where, seconds) from None
    except CannotOpenError as error:
        raise NoReply(str(error)) from None
    except OSError as error:
        raise broken(where, error) from None
    finally:
        if transport:
            transport.abort()
