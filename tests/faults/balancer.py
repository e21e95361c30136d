"""A TCP balancer that does what deploy/haproxy.cfg says, since the tests have no haproxy.

It reads the file itself, and refuses what it does not know: so the file has nothing that is not tested here, but for
the settings of ``NOT_TESTED``.
"""

import asyncio
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

FILE = Path(__file__).parent.parent.parent / "deploy" / "haproxy.cfg"
NOT_TESTED = {
    *("global", "defaults", "listen", "bind", "maxconn", "mode tcp", "balance leastconn", "option redispatch"),
    *("option tcp-check", "timeout connect", "timeout client", "timeout server"),
}
UNITS = {"ms": 0.001, "s": 1.0}
CHUNK_BYTES_MAX = 1 << 16


class Configuration:
    """What the file says of checks, and how many servers it has."""

    def __init__(self, text: str) -> None:
        self.send = self.expect = b""
        self.check_seconds_max = self.interval_seconds = 0.0
        self.fall = self.rise = self.servers = 0
        self.shuts_sessions = False
        for line in text.splitlines():
            if words := line.partition("#")[0].split():
                self._read(words)

    def _read(self, words: list[str]) -> None:
        match words:
            case ["timeout", "check", time]:
                self.check_seconds_max = _seconds(time)
            case ["tcp-check", "send", data]:
                self.send = data.encode().decode("unicode_escape").encode()
            case ["tcp-check", "expect", "min-recv", "0", "string", data]:
                self.expect = data.strip("'").encode()
            case ["default-server", "inter", time, "fall", fall, "rise", rise, "maxconn", _, *marked_down]:
                self.interval_seconds, self.fall, self.rise = _seconds(time), int(fall), int(rise)
                self.shuts_sessions = marked_down == ["on-marked-down", "shutdown-sessions"]
            case ["server", _, _, "check"]:
                self.servers += 1
            case _:
                assert {words[0], " ".join(words[:2])} & NOT_TESTED, f"the tests do not know {words}"


class Server:
    """A daemon: whether it counts as up, and its sessions."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.up = True
        self.sessions: set[asyncio.Task[None]] = set()


class Balancer:
    """Balances between daemons on these ports of 127.0.0.1. Each takes the place of one in the file."""

    def __init__(self, configuration: Configuration, ports: Sequence[int]) -> None:
        assert len(ports) <= configuration.servers
        self._configuration = configuration
        self.servers = [Server(port) for port in ports]
        self._checks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Balancer":
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._listener.sockets[0].getsockname()[1]
        self._checks = [asyncio.create_task(self._check_again_and_again(server)) for server in self.servers]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        ending = [*self._checks, *(session for server in self.servers for session in server.sessions)]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _check_again_and_again(self, server: Server) -> None:
        # How many checks in a row contradict its state.
        against = 0
        while True:
            against = 0 if await self._is_ready(server) == server.up else against + 1
            if against == (self._configuration.fall if server.up else self._configuration.rise):
                server.up, against = not server.up, 0
                if not server.up and self._configuration.shuts_sessions:
                    for session in server.sessions:
                        session.cancel()
            await asyncio.sleep(self._configuration.interval_seconds)

    async def _is_ready(self, server: Server) -> bool:
        try:
            async with asyncio.timeout(self._configuration.check_seconds_max):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                with closing(writer):
                    writer.write(self._configuration.send)
                    return self._configuration.expect in await reader.readline()
        except (OSError, TimeoutError):
            return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        assert session
        try:
            for server in sorted(self.servers, key=lambda server: len(server.sessions)):
                if server.up:
                    server.sessions.add(session)
                    try:
                        with suppress(OSError):
                            await _relay(reader, writer, server.port)
                            return
                    finally:
                        server.sessions.discard(session)
        except asyncio.CancelledError:
            # Its server is marked down, or the test ends.
            pass
        finally:
            writer.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Relay a connection until either side ends it. Raises OSError if nobody listens on the port."""
    from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
    pumps = [asyncio.ensure_future(_pump(*ends)) for ends in ((reader, to_server), (from_server, writer))]
    with closing(to_server):
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(CHUNK_BYTES_MAX):
            sink.write(data)
            await sink.drain()


def _seconds(time: str) -> float:
    """Return a time of haproxy, such as 500ms, in seconds."""
    number = time.rstrip("ms")
    return float(number) * UNITS[time.removeprefix(number)]
