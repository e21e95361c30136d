"""What a daemon and systemd tell each other: sockets that are handed over, and the state of the daemon.

See sd_listen_fds(3) and sd_notify(3). Started by anything else, the daemon gets no sockets, and tells nobody.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ticketd.wire.schema import shown

FIRST_DESCRIPTOR = 3
# So long it waits for a manager that reads slowly.
TELL_SECONDS_MAX = 0.1
# While the ledger is opened, it asks for this much more time, this often, and no longer than that in all.
EXTENSION_SECONDS = 15.0
EXTENSION_INTERVAL_SECONDS = 5.0
EXTENDED_SECONDS_MAX = 3_600.0


def inherited_sockets() -> list[socket.socket]:
    """Return the sockets that were handed over to this process, once.

    Raises OSError if one of them is no socket, and ValueError if LISTEN_FDS is no number.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count:
        return []
    if not count.isdecimal():
        raise ValueError(f"LISTEN_FDS must be a number of sockets, not {shown(count)}")
    sockets = []
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
        os.set_inheritable(descriptor, False)
        sockets.append(socket.socket(fileno=descriptor))
    return sockets


class ServiceManager:
    """Whoever started the daemon, if it wants to know how the daemon is (Type=notify)."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        # A socket without a file has a name that begins with a zero byte.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = os.environ.get("WATCHDOG_USEC", "")
        self._watchdog_seconds = int(watchdog) / 1e6 if watched and watchdog.isdecimal() else 0.0

    def tell(self, *state: str) -> None:
        """Tell the state, such as ``READY=1``. If nobody takes it, the daemon goes on."""
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
                told.settimeout(TELL_SECONDS_MAX)
                told.sendto("\n".join(state).encode(), self._address)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Ask for more time until the end of the block, from a thread: the loop waits for the ledger meanwhile."""
        if not self._address:
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._extend, args=(ended,), name="systemd", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _extend(self, ended: threading.Event) -> None:
        for _ in range(round(EXTENDED_SECONDS_MAX / EXTENSION_INTERVAL_SECONDS)):
            self.tell(f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1e6:.0f}", "STATUS=opening the ledger")
            if ended.wait(EXTENSION_INTERVAL_SECONDS):
                return

    async def keep_alive(self) -> None:
        """Tell that the loop runs, twice as often as asked for, until cancelled. Without a watchdog, return at once."""
        while self._watchdog_seconds:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / 2)
