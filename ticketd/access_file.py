"""Owns the access file: who has a token, and what each of them may do. It keeps hashes, and no secrets."""

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ticketd.wire.roles import Role

# So many are compared for each attempt to authenticate.
TOKENS_MAX = 1_000
BYTES_MAX = 1024 * 1024
# Each change of a booking has such a name, and all of them must fit into one reply.
NAME_CHARS_MAX = 32
SECRET_BYTES = 32


Name = Annotated[
    str, Meta(pattern=rf"^[A-Za-z0-9._-]{{1,{NAME_CHARS_MAX}}}\Z", title=f"1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 . _ -")
]
# Of a domain, a user may have its name before a backslash or after an @.
UserName = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9._@\\+$-]{{1,{NAME_CHARS_MAX}}}\Z")]


class AccessFileError(Exception):
    """The access file cannot be used; the message says why and what to do."""


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    """Who has the secret with this SHA-256 may do what this role may. The secret has 256 random bits: no slow hash."""

    name: Name
    role: Role
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", title="64 hexadecimal digits")]


class AccessList(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The content of the file.

    ``anonymous`` is the role of those who have not authenticated; None if they may do nothing. ``users`` are the roles
    of users of this machine, who come by the unix socket.
    """

    tokens: list[Token] = []
    anonymous: Role | None = None
    users: dict[UserName, Role] = {}


def read(path: Path) -> AccessList:
    """Return the content of the file. Raises AccessFileError, also if others than its owner can write it."""
    try:
        # Opening a pipe must not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            _check_writers(path, os.fstat(descriptor))
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise AccessFileError(f"cannot read the access file {path} ({error.strerror})") from None
    return _decode(content, path)


def _check_writers(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise AccessFileError(f"the access file {path} is no regular file")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AccessFileError(f"others can write the access file {path}; take that away: chmod 600 {path}")
    # Root may work on the file of a daemon that runs as somebody else.
    if os.geteuid() not in (0, status.st_uid) and status.st_uid != 0:
        raise AccessFileError(f"the access file {path} belongs to another user, who can write it; chown it")


def _decode(content: bytes, path: Path) -> AccessList:
    if len(content) > BYTES_MAX:
        raise AccessFileError(f"the access file {path} has more than {BYTES_MAX} bytes")
    try:
        access = msgspec.json.decode(content, type=AccessList)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AccessFileError(f"the access file {path} is not valid: {error}") from None
    names = [token.name for token in access.tokens]
    if len(set(names)) < len(names):
        raise AccessFileError(f"the access file {path} is not valid: two tokens have the same name")
    if len(names) > TOKENS_MAX:
        raise AccessFileError(f"the access file {path} has more than {TOKENS_MAX:,} tokens")
    return access


def write(path: Path, access: AccessList) -> None:
    """Replace the file, for its owner alone to read. The owner stays the same. Raises AccessFileError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        # A link that somebody puts there is not followed.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            if os.geteuid() == 0 and path.exists():
                os.fchown(descriptor, path.stat().st_uid, path.stat().st_gid)
            file.write(msgspec.json.format(msgspec.json.encode(access), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        raise AccessFileError(f"cannot write the access file {path} ({error.strerror})") from None


def add(path: Path, name: str, role: Role) -> str:
    """Add a token to the file, which is created if there is none, and return its secret. Raises AccessFileError."""
    with _locked(path):
        access = read(path) if path.exists() else AccessList()
        if any(token.name == name for token in access.tokens):
            raise AccessFileError(f"there is a token {name} already; remove it first, or choose another name")
        if len(access.tokens) >= TOKENS_MAX:
            raise AccessFileError(f"the access file {path} has {TOKENS_MAX:,} tokens already; remove one first")
        secret = secrets.token_urlsafe(SECRET_BYTES)
        while secret.startswith("-"):
            # In words it would be an option.
            secret = secrets.token_urlsafe(SECRET_BYTES)
        access.tokens.append(Token(name, role, digest(secret)))
        write(path, access)
    return secret


def remove(path: Path, name: str) -> None:
    """Remove a token from the file. Raises AccessFileError if there is none with this name."""
    with _locked(path):
        access = read(path)
        kept = [token for token in access.tokens if token.name != name]
        if len(kept) == len(access.tokens):
            raise AccessFileError(f"there is no token {name} in {path}")
        access.tokens = kept
        write(path, access)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let others wait who change the file, or a token that one of them removes could come back."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise AccessFileError(f"cannot write the access file {path} ({error.strerror})") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def is_name(text: str) -> bool:
    """Whether a token may have this name."""
    try:
        msgspec.convert(text, Name)
    except msgspec.ValidationError:
        return False
    return True


def digest(secret: str) -> str:
    """Return what the file keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
