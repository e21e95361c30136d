"""ticketctl is the client of ticketd made for people: one-shot commands, scripts and an interactive shell.

It is a library too: ``from ticketctl import Client, AsyncClient``. docs/python.md shows how to use it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ticketctl.async_client import AsyncClient as AsyncClient
    from ticketctl.client import Client as Client
    from ticketctl.failures import CannotConnectError as CannotConnectError
    from ticketctl.failures import ClientError as ClientError
    from ticketctl.failures import OutcomeUnknownError as OutcomeUnknownError
    from ticketctl.failures import RefusedError as RefusedError
    from ticketctl.security import Tls as Tls
    from ticketctl.tokens import read_token as read_token

__all__ = [
    "AsyncClient",
    "CannotConnectError",
    "Client",
    "ClientError",
    "OutcomeUnknownError",
    "RefusedError",
    "Tls",
    "read_token",
]

# Each is imported once it is used: asyncio and TLS take longer to import than most commands take.
_MODULES = {
    "AsyncClient": "ticketctl.async_client",
    "CannotConnectError": "ticketctl.failures",
    "Client": "ticketctl.client",
    "ClientError": "ticketctl.failures",
    "OutcomeUnknownError": "ticketctl.failures",
    "RefusedError": "ticketctl.failures",
    "Tls": "ticketctl.security",
    "read_token": "ticketctl.tokens",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
