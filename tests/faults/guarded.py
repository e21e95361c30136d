"""A daemon with an access file, a certificate and a unix socket, and connections to it in every way."""

import asyncio
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from tests.daemon import REPLY_SECONDS_MAX, Daemon, running, write_events
from tests.faults.certificates import write_certificate
from ticketd import access_file
from ticketd.wire.roles import Role

Way = Literal["plain", "tls", "unix"]
CAPACITY = 1_000_000_000


class Guard:
    """The files of guarded daemons, and the secrets of those who are let in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access = folder / "access.json"
        self.secrets: dict[str, str] = {}
        self.certificate, self.key = write_certificate(folder)
        self.add("admin", "admin")

    def add(self, name: str, role: Role) -> str:
        """Give out a token, and return its secret."""
        self.secrets[name] = access_file.add(self.access, name, role)
        return self.secrets[name]

    def remove(self, name: str) -> None:
        """Take a token back."""
        access_file.remove(self.access, name)
        del self.secrets[name]

    def let_in_anybody(self, role: Role) -> None:
        """Give a role to all who have not said who they are."""
        access = access_file.read(self.access)
        access.anonymous = role
        access_file.write(self.access, access)

    @contextmanager
    def daemon(self, name: str, *flags: str, tls: bool = False) -> Iterator["Guarded"]:
        """Run a daemon in a folder of this name, until the end of the block; two events are on sale."""
        (folder := self.folder / name).mkdir()
        write_events(folder, CAPACITY, CAPACITY)
        unix = folder / "s"
        guarded = ["--access", str(self.access), "--unix", str(unix), *flags]
        if tls:
            guarded += ["--tls-certificate", str(self.certificate), "--tls-key", str(self.key)]
        with running(folder, *guarded) as daemon:
            yield Guarded(daemon, unix, "tls" if tls else "plain")
            if daemon.process.poll() is None:
                assert daemon.end() == 0
            check_log(daemon)


class Guarded:
    """A guarded daemon that runs. ``way`` is how its port is reached."""

    def __init__(self, daemon: Daemon, unix: Path, way: Way) -> None:
        self.daemon = daemon
        self.unix = unix
        self.way: Way = way

    async def connect(self, way: Way | None = None, address: str = "127.0.0.1") -> "Talk":
        """Connect, from an address of this machine."""
        if way == "unix":
            return Talk(*await asyncio.open_unix_connection(self.unix))
        tls = client_context() if (way or self.way) == "tls" else None
        return Talk(*await asyncio.open_connection("127.0.0.1", self.daemon.port, ssl=tls, local_addr=(address, 0)))

    async def known(self, secret: str, way: Way | None = None) -> "Talk":
        """Connect and say who this is."""
        talk = await self.connect(way)
        welcome = await talk.ask(auth(secret))
        if welcome.get("reply") != "welcome":
            talk.writer.transport.abort()
        assert welcome.get("reply") == "welcome", f"the right token is answered {welcome}"
        return talk

    def stranger(self) -> socket.socket:
        """Connect to the port, and say nothing."""
        return socket.create_connection(("127.0.0.1", self.daemon.port), REPLY_SECONDS_MAX)


class Talk:
    """A connection that speaks lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, line: bytes) -> dict[str, Any]:
        """Send one line and return its reply; nothing if the connection ended."""
        self.writer.write(line + b"\n")
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        """Return the next reply; nothing if the connection ended."""
        try:
            line = await self.reader.readline()
        except OSError:
            line = b""
        reply: dict[str, Any] = msgspec.json.decode(line) if line.endswith(b"\n") else {}
        return reply

    async def rest(self) -> list[dict[str, Any]]:
        """Return the replies until the connection ends."""
        replies = []
        while reply := await self.hear():
            replies.append(reply)
        return replies

    async def __aenter__(self) -> "Talk":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection, without a goodbye in TLS."""
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()


def auth(secret: str) -> bytes:
    """Return the line that says who somebody is."""
    return msgspec.json.encode({"cmd": "auth", "token": secret})


def client_context() -> ssl.SSLContext:
    """Return what takes any certificate: the daemon's may be renewed at any time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_log(daemon: Daemon) -> None:
    """Check that the daemon met no bug, and that its log has no secret."""
    bugs = [line for line in daemon.lines if "Traceback" in line or "bug" in line or " ERROR " in line]
    assert not bugs, f"the daemon met a bug: {bugs}"


def allow_open_files(number: int) -> None:
    """Let this process open so many files, if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (number if hard == resource.RLIM_INFINITY else min(number, hard), hard)
        )
