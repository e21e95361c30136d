"""Owns the access file: who has a token, and what each of them may do. It keeps hashes, and no secrets."""

import fcntl
import hashlib
import os
import pwd
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ticketd.wire.roles import Role

# So many are compared for each attempt to authenticate.
TOKENS_MAX = 1_000
BYTES_MAX = 1024 * 1024
# Each change of a booking has such a name, and all of them must fit into one reply.
NAME_CHARS_MAX = 32
SECRET_BYTES = 32
# How long a change waits for others who change the file.
LOCK_SECONDS_MAX = 5.0
_LOCK_RETRY_SECONDS = 0.02
# What those without a token are called, and no files.
RESERVED = frozenset({"anonymous", "anybody", ".", ".."})

Name = Annotated[
    str, Meta(pattern=rf"^[A-Za-z0-9._-]{{1,{NAME_CHARS_MAX}}}\Z", title=f"1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 . _ -")
]
# Of a domain, a user may have its name before a backslash or after an @.
UserName = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9._@\\+$-]{{1,{NAME_CHARS_MAX}}}\Z",
        title=rf"1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 . _ @ \ + $ -",
    ),
]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", title="64 hexadecimal digits in small letters")]


class AccessFileError(Exception):
    """The access file cannot be used; the message says why and what to do."""


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    """Who has the secret with this SHA-256 may do what this role may. The secret has 256 random bits: no slow hash."""

    name: Name
    role: Role
    sha256: Sha256


class AccessList(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The content of the file.

    ``anonymous`` is the role of those who have not authenticated; None if they may do nothing. ``users`` are the roles
    of users of this machine, who come by the unix socket.
    """

    tokens: list[Token] = []
    anonymous: Role | None = None
    users: dict[UserName, Role] = {}


def read(path: Path, *, of_any_owner: bool = False) -> AccessList:
    """Return the content of the file. Raises AccessFileError, also if others can write it.

    It must belong to this user or to root; with ``of_any_owner``, root may read the file of somebody else.
    """
    try:
        # Opening a pipe must not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            _check_writers(path, os.fstat(descriptor), of_any_owner=of_any_owner)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise AccessFileError(f"cannot read the access file {path} ({error.strerror})") from None
    return _decode(content, path)


def _check_writers(path: Path, status: os.stat_result, *, of_any_owner: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise AccessFileError(f"the access file {path} is no regular file")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AccessFileError(f"others can write the access file {path}; take that away: chmod 600 {path}")
    may_belong_to_anybody = of_any_owner and os.geteuid() == 0
    if status.st_uid not in (0, os.geteuid()) and not may_belong_to_anybody:
        raise AccessFileError(f"the access file {path} belongs to another user, who can write it; chown it")


def _decode(content: bytes, path: Path) -> AccessList:
    if len(content) > BYTES_MAX:
        raise AccessFileError(f"the access file {path} has more than {BYTES_MAX} bytes")
    if not content.strip():
        raise AccessFileError(f"the access file {path} is empty; remove it, and ticketd access add makes a new one")
    try:
        access = msgspec.json.decode(content, type=AccessList)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AccessFileError(f"the access file {path} is not valid: {_in_words(error)}") from None
    names = [token.name for token in access.tokens]
    if reserved := RESERVED.intersection(names):
        raise AccessFileError(f"the access file {path} is not valid: no token may be called {min(reserved)}")
    if len(set(names)) < len(names):
        raise AccessFileError(f"the access file {path} is not valid: two tokens have the same name")
    if len({token.sha256 for token in access.tokens}) < len(names):
        raise AccessFileError(f"the access file {path} is not valid: two tokens have the same sha256")
    if len(names) > TOKENS_MAX:
        raise AccessFileError(f"the access file {path} has more than {TOKENS_MAX:,} tokens")
    return access


def _in_words(error: Exception) -> str:
    """Return what msgspec says, but no patterns of ours."""
    said, _, where = str(error).rpartition(" - at ")
    if "matching regex" not in said:
        return str(error)
    kind: Any = Sha256 if "sha256" in where else UserName if "users" in where else Name
    return f"{where.replace('$.', '').replace('`', '')} must be {kind.__metadata__[0].title}"


def uids(access: AccessList) -> dict[str, int]:
    """Return the uid of each user in the list whom this machine knows. Looking names up may take long.

    A user in the list may be a uid instead of a name.
    """
    return {user: uid for user in access.users if (uid := _uid(user)) is not None}


def _uid(user: str) -> int | None:
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def write(path: Path, access: AccessList) -> None:
    """Replace the file; a new one is for its owner alone. Raises AccessFileError.

    The owner and the group stay the same, and so does who may read it, but for all others.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        # A link that somebody puts there is not followed.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, _take_over_owner(descriptor, path))
            file.write(msgspec.json.format(msgspec.json.encode(access), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        raise AccessFileError(f"cannot write the access file {path} ({error.strerror})") from None


def _take_over_owner(descriptor: int, path: Path) -> int:
    """Give a file the owner and the group of another, as far as this user may; return the mode that it may have."""
    try:
        before = path.stat()
    except FileNotFoundError:
        return 0o600
    try:
        os.fchown(descriptor, before.st_uid if os.geteuid() == 0 else -1, before.st_gid)
    except PermissionError:
        # It is of another group now.
        return before.st_mode & 0o600
    return before.st_mode & 0o640


def add(path: Path, name: str, role: Role) -> str:
    """Add a token to the file, which is created if there is none, and return its secret. Raises AccessFileError."""
    path = _target(path)
    with _locked(path):
        access = read(path, of_any_owner=True) if path.exists() else AccessList()
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
    path = _target(path)
    with _locked(path):
        access = read(path, of_any_owner=True)
        kept = [token for token in access.tokens if token.name != name]
        if len(kept) == len(access.tokens):
            raise AccessFileError(f"there is no token {name} in {path}")
        access.tokens = kept
        write(path, access)


def _target(path: Path) -> Path:
    """Return what is replaced: a link stays a link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let others wait who change the file, or a token that one of them removes could come back.

    Whoever can read the folder can lock it, so nobody waits for ever: raises AccessFileError.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise AccessFileError(f"cannot write the access file {path} ({error.strerror})") from None
    try:
        deadline = time.monotonic() + LOCK_SECONDS_MAX
        while not _lock(folder):
            if time.monotonic() > deadline:
                raise AccessFileError(f"another program has locked {path.parent}; end it (fuser -v {path.parent})")
            time.sleep(_LOCK_RETRY_SECONDS)
        yield
    finally:
        os.close(folder)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_name(text: str) -> bool:
    """Whether a token may have this name."""
    try:
        msgspec.convert(text, Name)
    except msgspec.ValidationError:
        return False
    return text not in RESERVED


def digest(secret: str) -> str:
    """Return what the file keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
