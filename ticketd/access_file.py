"""Owns the access file: who has a token, and what each of them may do. It keeps hashes, and no secrets."""

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ticketd.model import Id
from ticketd.wire.roles import Role

# So many are compared for each attempt to authenticate.
TOKENS_MAX = 1_000
BYTES_MAX = 1024 * 1024
SECRET_BYTES = 32


class AccessFileError(Exception):
    """The access file cannot be used; the message says why and what to do."""


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    """Who has the secret with this SHA-256 may do what this role may. The secret has 256 random bits: no slow hash."""

    name: Id
    role: Role
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", title="64 hexadecimal digits")]


class AccessList(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The content of the file.

    ``anonymous`` is the role of those who have not authenticated; None if they may do nothing. ``users`` are the roles
    of users of this machine, who come by the unix socket.
    """

    tokens: list[Token] = []
    anonymous: Role | None = None
    users: dict[str, Role] = {}


def read(path: Path) -> AccessList:
    """Return the content of the file. Raises AccessFileError, also if others than its owner can write it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise AccessFileError(f"the access file {path} is no regular file")
            if mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise AccessFileError(f"others can write the access file {path}; take that away: chmod 600 {path}")
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise AccessFileError(f"cannot read the access file {path} ({error.strerror})") from None
    return _decode(content, path)


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
    """Replace the file, for its owner alone to read. Raises AccessFileError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        temporary.touch(0o600)
        with temporary.open("wb") as file:
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
    access = read(path) if path.exists() else AccessList()
    if any(token.name == name for token in access.tokens):
        raise AccessFileError(f"there is a token {name} already; remove it first, or choose another name")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    access.tokens.append(Token(name, role, digest(secret)))
    write(path, access)
    return secret


def remove(path: Path, name: str) -> None:
    """Remove a token from the file. Raises AccessFileError if there is none with this name."""
    access = read(path)
    kept = [token for token in access.tokens if token.name != name]
    if len(kept) == len(access.tokens):
        raise AccessFileError(f"there is no token {name} in {path}")
    access.tokens = kept
    write(path, access)


def digest(secret: str) -> str:
    """Return what the file keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
