"""Crowds of connections to a daemon, and the ledger that a crash leaves behind."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

CROWD_SECONDS_MAX = 60.0


async def buy(port: int, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send requests one after the other over one connection; return the replies, fewer if the daemon dies."""
    replies: list[dict[str, Any]] = []
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in requests:
            writer.write(msgspec.json.encode(request) + b"\n")
            line = await reader.readline()
            if not line.endswith(b"\n"):
                break
            replies.append(msgspec.json.decode(line))
        writer.close()
    except OSError:
        pass
    return replies


def crowd(port: int, orders: Sequence[Sequence[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Let everybody buy at once; return what each was answered."""

    async def together() -> list[list[dict[str, Any]]]:
        async with asyncio.timeout(CROWD_SECONDS_MAX):
            return list(await asyncio.gather(*(buy(port, requests) for requests in orders)))

    return uvloop.run(together())


def copied_ledger(folder: Path) -> Path:
    """Copy the ledger with the log that a crash left behind, so that reading it recovers nothing for the daemon."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in folder.glob("events.db*"):
        shutil.copy(file, copy)
    return copy / "events.db"
