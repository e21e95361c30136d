"""A server between a client and a daemon that takes replies away."""

import socket
import threading
from contextlib import suppress
from typing import Any

import msgspec

from tests.daemon import Daemon

THREAD_SECONDS_MAX = 20.0


class Thief:
    """Relays lines to a daemon, and closes the connection in the place of the first replies to a command."""

    def __init__(self, daemon: Daemon, cmd: str, thefts: int) -> None:
        self._daemon = daemon
        self._asked = f'"cmd":"{cmd}"'.encode()
        self._thefts = thefts
        self.stolen: list[dict[str, Any]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(THREAD_SECONDS_MAX)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, client.makefile("rb") as lines, self._daemon.connect() as connection:
                    for line in lines:
                        reply = connection.ask(line.strip())
                        if self._asked in line and len(self.stolen) < self._thefts:
                            self.stolen.append(reply)
                            break
                        client.sendall(msgspec.json.encode(reply) + b"\n")
