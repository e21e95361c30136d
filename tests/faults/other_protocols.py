"""What clients of other protocols send first, such as a web page: each gets one error, and nothing of it is done."""

import random

from tests.daemon import Daemon
from tests.faults.owed import TOKEN
from tests.faults.sending import cut_anyhow, sending

SPACES = [b" ", b"  ", b"\t", b" \t "]
GREETINGS = [b"EHLO a", b"HELO a", b"*3", b"*1", b"SSH-2.0-x", b"NICK a", b"USER a 0 * :", b"PROXY TCP4 1.2.3.4"]
BODY = b"book 2 1\n"


def other_protocol(chance: random.Random) -> bytes:
    """Return the first line that a client of another protocol may send: of HTTP, of a binary one, or a greeting."""
    match chance.choice(["http", "binary", "greeting"]):
        case "http":
            method = "".join(chance.choices(TOKEN, k=chance.randint(1, 10)))
            version = "".join(chance.choice([char, char.lower()]) for char in "HTTP/")
            words = [method.encode(), chance.choice([b"/", b"*", b"/book?1"]), version.encode() + b"1.1"]
            return chance.choice([b"", *SPACES]) + chance.choice(SPACES).join(words)
        case "binary":
            return chance.choice([b"\x16\x03\x01", b"\0\1", b"book\x7f"]) + chance.randbytes(chance.randint(0, 300))
        case _:
            return chance.choice(GREETINGS)


def check_other_protocols(daemon: Daemon, count: int, chance: random.Random) -> int:
    """Send what other clients may, with bookings in it, and see that each gets one error and books nothing.

    Returns how many there were.
    """
    for _ in range(count):
        stream = other_protocol(chance) + chance.choice([b"\n", b"\r\n", b"\r\n\r\n"]) + BODY * chance.randint(1, 3)
        with daemon.connect() as connection, sending(connection, cut_anyhow(stream, chance)):
            ending = connection.read()
            assert ending.get("code") == "bad_frame", f"{stream!r} was answered {ending}"
            assert connection.rest() == b"", f"{stream!r} was answered more than once"
    with daemon.connect() as connection:
        assert connection.ask("show 2")["sold"] == 0
    return count
