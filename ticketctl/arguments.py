"""What the callers of the library hand in, checked before anything is sent. Pure."""

from collections.abc import Sequence
from typing import TypeVar

from msgspec import UNSET, UnsetType

from ticketd.wire.requests import Auth, Request

# As long as that of ticketctl may be.
TIMEOUT_SECONDS_MAX = 86_400.0

T = TypeVar("T")


def check_limits(port: int, timeout: float, connections_max: int) -> None:
    """Raise ValueError if a client cannot have these."""
    if not (isinstance(port, int) and 1 <= port <= 65_535):
        raise ValueError(f"port must be 1 to 65535, and it is {port!r}")
    if not (isinstance(timeout, int | float) and 0 < timeout <= TIMEOUT_SECONDS_MAX):
        raise ValueError(f"timeout must be above 0 and at most {TIMEOUT_SECONDS_MAX:g} seconds, and it is {timeout!r}")
    if not (isinstance(connections_max, int) and connections_max >= 1):
        raise ValueError(f"connections_max must be at least 1, and it is {connections_max!r}")


def check_ask(request: Request) -> None:
    """Raise TypeError if this is no request with one reply."""
    _check_request(request)
    if request.streams:
        raise TypeError(f"{_name(request)} has many replies: use follow() or {_name(request)}()")


def check_call(request: Request) -> None:
    """Raise as ``check_ask`` does, and TypeError if this would change who a connection is, which other calls share."""
    check_ask(request)
    if isinstance(request, Auth):
        raise TypeError("auth is no call: make a client with this token")


def check_follow(request: Request) -> None:
    """Raise TypeError if this is no request with many replies."""
    _check_request(request)
    if not request.streams:
        raise TypeError(f"{_name(request)} has one reply: use call()")


def check_repeatable(request: Request) -> None:
    """Raise as ``check_call`` does, and ValueError if this must not be sent twice."""
    check_call(request)
    if not request.repeatable:
        raise ValueError(f"{_name(request)} cannot be one of many, because it must not be sent again: use call()")


def given(value: T | None) -> T | UnsetType:
    """Return what a request has for a field that is left out if it is None."""
    return UNSET if value is None else value


def given_list(name: str, values: Sequence[str] | None) -> list[str] | UnsetType:
    """Return ``given`` for a list. Raises TypeError if it is a single str; ``name`` is what the message calls it."""
    if isinstance(values, str):
        raise TypeError(f"{name} must be a list of str, and it is a single str")
    return UNSET if values is None else [*values]


def _check_request(request: Request) -> None:
    if not isinstance(request, Request):
        raise TypeError(f"a request is a Struct of ticketd.wire.requests, such as Book, and this is {request!r:.100}")


def _name(request: Request) -> str:
    return str(request.__struct_config__.tag)
