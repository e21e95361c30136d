"""What is owed for bytes of any kind, by the words of protocol.md.

A line gets one coded reply, and the connection is in step afterwards. Only a line that is too long, a line of HTTP and
words that the end of input cuts short end the connection, with an error; and before the first command, a line of
another protocol: one with a control byte, one that begins with capitals or a star, or one with a version of HTTP in it.
The greeting of TLS does so before its line ends, however long that is. White space before the first line counts for
nothing.
"""

import json
import re
import string
from typing import NamedTuple

from ticketd.errors import Code, TicketError
from ticketd.wire import codec, words
from ticketd.wire.commands import commands
from ticketd.wire.lines import FRAME_BYTES_MAX

# What the method of an HTTP request may be made of.
TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
# The first byte of a record of TLS that begins a connection.
TLS_HANDSHAKE = b"\x16"


class Owed(NamedTuple):
    """The lines that get a reply each, and the code of the error that ends the connection, if one does."""

    lines: list[bytes]
    ending: Code | None


def owed(stream: bytes, limit: int = FRAME_BYTES_MAX) -> Owed:
    """Return what is owed to the bytes of a connection that ends after them."""
    lines: list[bytes] = []
    greeted = False
    stream = stream.lstrip(b" \t\r\n")
    if stream.startswith(TLS_HANDSHAKE):
        return Owed(lines, "bad_frame")
    *complete, rest = stream.split(b"\n")
    for line in complete:
        if len(line.removesuffix(b"\r")) > limit:
            return Owed(lines, "frame_too_long")
        text = line.strip(b" \t\r")
        if is_command(text):
            greeted = True
        elif is_http(text) or (not greeted and is_foreign(text)):
            return Owed(lines, "bad_frame")
        if text:
            lines.append(line)
    if len(rest.removesuffix(b"\r")) > limit:
        return Owed(lines, "frame_too_long")
    rest = rest.strip(b" \t\r")
    if rest.startswith(b"{"):
        foreign = not greeted and not is_command(rest) and is_foreign(rest)
        return Owed(lines, "bad_frame") if foreign else Owed([*lines, rest], None)
    return Owed(lines, "bad_frame" if rest else None)


def tag_of(line: bytes) -> str | None:
    """Return the tag that the reply to a line repeats, unless the line is refused as unreadable; None for none."""
    text = line.strip(b" \t\r")
    if not text.startswith(b"{"):
        return None
    try:
        # Of whole numbers, Python takes only some thousands of digits.
        tag = json.loads(text, parse_int=len, strict=False).get("tag")
    except (ValueError, RecursionError):
        return None
    return tag if isinstance(tag, str) and 1 <= len(tag) <= 64 else None


def is_command(line: bytes) -> bool:
    """Whether a line is a request, whatever the answer."""
    try:
        (codec if line.startswith(b"{") else words).decode(line)
    except (TicketError, ValueError):
        return False
    return True


def is_http(line: bytes) -> bool:
    """Whether a line is a method, a target and a version of HTTP."""
    method, target, version, *_ = [*line.split(None, 3), b"", b"", b""]
    return set(method.decode("latin-1")) <= set(TOKEN) and b'"' not in target and version[:5].upper() == b"HTTP/"


def is_foreign(line: bytes) -> bool:
    """Whether no person types a line.

    It has a version of HTTP or a control byte, or begins with capitals or a star, and not with LIST.
    """
    if any(word[:5].upper() == b"HTTP/" and word[5:6].isdigit() for word in line.split()[1:]):
        return True
    if any((byte < 0x20 and byte not in b"\t\r\n") or byte == 0x7F for byte in line):
        return True
    in_capitals = len(line) > 1 and all(chr(byte) in string.ascii_uppercase for byte in line[:2])
    word = re.split(rb"\s", line)[0].lower()
    return (in_capitals or line.startswith(b"*")) and word not in [name.encode() for name in commands()]
