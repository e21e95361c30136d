"""Daemons that are guarded: with an access file and a token for each role, and certificates for TLS."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tests.daemon import Daemon, running, write_events
from ticketd import access_file
from ticketd.wire.roles import Role


@dataclass
class Guarded:
    """A daemon, and who may use it: ``secrets`` by the names of their tokens, which are those of their roles."""

    daemon: Daemon
    folder: Path
    secrets: dict[str, str]

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.daemon.port

    @property
    def access(self) -> Path:
        """Its access file."""
        return self.folder / "access.json"

    def token_file(self, name: str) -> str:
        """The file with the token of this name."""
        return str(self.folder / f"{name}.token")

    def remove(self, name: str) -> None:
        """Take a token away, and wait until the daemon knows that."""
        access_file.remove(self.access, name)
        self.reload()

    def replace(self, name: str, role: Role) -> None:
        """Put another token, NAME-2 with this role, into the token file of this name. The old one stays valid."""
        write_token(Path(self.token_file(name)), access_file.add(self.access, f"{name}-2", role))
        self.reload()

    @contextmanager
    def again(self, *arguments: str) -> Iterator[Daemon]:
        """Start the daemon again, on the same port."""
        with running(self.folder, "--access", str(self.access), "--port", str(self.port), *arguments) as daemon:
            yield daemon

    def reload(self) -> None:
        """Let the daemon read its files again, and wait until it has."""
        seen = len(self.daemon.lines)
        self.daemon.process.send_signal(1)
        self.daemon.wait_line_after(seen, "access file .* again")


def write_token(path: Path, secret: str) -> str:
    """Write a token file as it must be, and return its name."""
    path.touch(0o600)
    path.write_text(f"{secret}\n")
    return str(path)


@contextmanager
def guarded(folder: Path, *arguments: str) -> Iterator[Guarded]:
    """Run a daemon with an event of 100 and one of 200 tickets, and a token for each role."""
    write_events(folder, 100, 200)
    access = folder / "access.json"
    secrets = {role: access_file.add(access, role, role) for role in get_args(Role)}
    for name, secret in secrets.items():
        write_token(folder / f"{name}.token", secret)
    with running(folder, "--access", str(access), *arguments) as daemon:
        yield Guarded(daemon, folder, secrets)


def certificate(folder: Path, name: str, *hosts: str) -> tuple[str, str]:
    """Make a certificate that signs itself, for these hosts (``DNS:localhost``, ``IP:127.0.0.1``), and its key."""
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={','.join(hosts)}"]
    files = ["-keyout", str(key), "-out", str(made)]
    subprocess.run(["openssl", "req", *kind, *names, *files], check=True, capture_output=True)
    return str(made), str(key)
