"""How bytes are sent to a daemon: cut into packets, while the replies are read."""

import random
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

from tests.daemon import Connection

SEND_SECONDS_MAX = 60.0


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a stream into packets at these places, in order."""
    edges = [0, *places, len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def cut_anyhow(stream: bytes, chance: random.Random) -> list[bytes]:
    """Cut a stream into packets of a few bytes and of many."""
    places: list[int] = []
    place = 0
    while (place := place + chance.randint(1, chance.choice([3, 100, 10_000]))) < len(stream):
        places.append(place)
    return cut(stream, places)


@contextmanager
def sending(connection: Connection, packets: Iterable[bytes]) -> Iterator[None]:
    """Send packets one by one, while the replies are read within the block."""

    def send() -> None:
        # If the daemon closes the connection, whoever reads it will say so.
        with suppress(ConnectionError):
            for packet in packets:
                connection.send(packet)

    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join(SEND_SECONDS_MAX)
