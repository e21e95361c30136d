"""The ceiling: a bare ``start_server`` that echoes what it reads, on the same loop as the daemon's."""

import asyncio
import sys

import uvloop


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
    writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0, backlog=1024)
    sys.stderr.write(f"ready listen=127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stderr.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
