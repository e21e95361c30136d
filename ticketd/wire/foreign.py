"""Recognizes lines of other protocols among those that are no valid command. Pure.

A web page can make a browser send a request whose body has commands in it. A client of another protocol that was given
the wrong port sends text of other people, which could have commands in it too. But the mistakes of a person who types
must not end the connection, such as a first word in small letters that is no command. So a protocol that begins with
small letters is not recognized. No browser speaks one.
"""

import re

from ticketd.wire.commands import commands

# A method, a target, a version, as RFC 9112 has it, but in any case and with any space. No command looks like this.
_HTTP = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+\s+[^\s\"]+\s+HTTP/", re.IGNORECASE)
# Whoever has sent no command yet may send what is no request of HTTP either, but was meant to be one.
_HTTP_VERSION = re.compile(rb"\sHTTP/[0-9]", re.IGNORECASE)
# TLS and other binary protocols have these. Tab, CR and LF prove nothing.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# What clients of SMTP, SSH, IRC and others say first is in capitals: EHLO, SSH-2.0, NICK. Redis's begin with *.
_GREETING = re.compile(rb"(?:[A-Z]{2}|\*)\S*")
_IS_HTTP = "this is HTTP, and ticketd speaks lines of JSON; see protocol.md"
_IS_OTHER = "this line is of another protocol, so nothing more is read; commands are in small letters, such as list"


def recognized(line: bytes, *, greeted: bool) -> str | None:
    """Return what to tell whoever sent a line of another protocol, or None if it is none.

    ``greeted`` says that there was a valid command before.
    """
    if _HTTP.match(line) or (not greeted and _HTTP_VERSION.search(line)):
        return _IS_HTTP
    return None if greeted or not _is_other_protocol(line) else _IS_OTHER


def _is_other_protocol(line: bytes) -> bool:
    """Whether a line is of another protocol, and not a typing mistake."""
    if _CONTROL.search(line):
        return True
    greeting = _GREETING.match(line)
    if greeting is None:
        return False
    # Somebody may have typed LIST. But AUTH is what clients of Redis and SMTP say before their own commands.
    word = greeting[0].lower().decode(errors="replace")
    return word == "auth" or word not in commands()


def is_tls(data: bytes) -> bool:
    """Whether this is how TLS begins, which need not send a whole line. No command begins like it."""
    return data.startswith(b"\x16")
