"""Owns the token of a person: it comes from a file that only they can read, is never typed, and never shown."""

import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ticketctl.client import Client
from ticketctl.link import Token
from ticketd.errors import TicketError
from ticketd.wire.replies import WelcomeReply
from ticketd.wire.requests import Auth
from ticketd.wire.requests.fields import TOKEN_CHARS_MAX, TOKEN_CHARS_MIN

_SECRET = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_CHARS_MIN},{TOKEN_CHARS_MAX}}}")
# The command, and what ticketd access add prints: 32 bytes. An id of this length is rare.
_TELLS = re.compile(r"\bauth\b|(?<![\w.-])[\w-]{43}(?![\w.-])", re.IGNORECASE | re.ASCII)


class _FileToken(Token):
    """The token in a file. It is read again for each connection, since it may have been replaced."""

    def __init__(self, file: str, allow_plaintext: bool) -> None:
        super().__init__(_secret_in(file), allow_plaintext)
        self._file = file

    @property
    def secret(self) -> str:
        """See Token. If the file cannot be read now, this is what it had before."""
        with suppress(OSError, ValueError):
            # A pipe has it only once.
            if Path(self._file).is_file():
                self._secret = _secret_in(self._file)
        return self._secret


def read_token(file: str, *, allow_plaintext: bool = False) -> Token:
    """Return the token in a file. Raises ValueError, whose message tells nothing of the secret.

    With ``allow_plaintext``, it may be sent without TLS, where others can read it. Only the owner may have access to
    the file. It is read again for each connection.
    """
    return _FileToken(file, allow_plaintext)


def _secret_in(file: str) -> str:
    try:
        with open(file, "rb") as opened:  # noqa: PTH123
            if os.fstat(opened.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ValueError(f"others can read the token file {file}; take that away: chmod 600 {file}")
            secret = opened.read(TOKEN_CHARS_MAX + 2).decode(errors="replace").strip()
    except OSError as error:
        if _SECRET.fullmatch(file):
            # Probably it is the token.
            raise ValueError("there is no such token file; give the name of a file, and never the token") from None
        raise ValueError(f"cannot read the token file {file} ({(error.strerror or str(error)).lower()})") from None
    if not _SECRET.fullmatch(secret):
        raise ValueError(f"the token file {file} must have one line, with what ticketd access add printed")
    return secret


def who_am_i(client: Client) -> WelcomeReply | None:
    """Return who the daemon says this is: None without a token, or if it refuses the token. Raises as ``ask`` does."""
    reply = client.ask(Auth(client.token.secret)) if client.token else None
    return reply if isinstance(reply, WelcomeReply) else None


def refuse_typed(command: Sequence[str]) -> None:
    """Raise TicketError (bad_request) if this is ``auth``, before anything tells what follows it."""
    if command and command[0].lower() == "auth":
        # It would stay in the history of a shell, and be seen in the list of processes.
        raise TicketError(
            "bad_request",
            "a token is not typed: put it into a file that only you can read, and name that with --token-file",
        )


def may_tell(line: str) -> bool:
    """Whether a line that was typed may have a token in it."""
    return bool(_TELLS.search(line))
