"""Owns who may do what: knows the tokens, and decides whether a request is allowed. Times are of the loop's clock."""

import hmac
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from msgspec import UNSET

from ticketd.access_file import AccessList, Token, digest
from ticketd.errors import TicketError
from ticketd.wire.replies import WelcomeReply
from ticketd.wire.requests import Auth, Book, Hold, Request, Show, Wait
from ticketd.wire.roles import SAY_WHO, WRONG_TOKEN, Role, any_of, may

log = logging.getLogger(__name__)

# After so many wrong tokens of one address in a second, more of them are told to wait. A right one never waits: it is
# so long that nobody guesses it, and to look at one more costs a hash.
FAILURES_PER_SECOND_MAX = 10
# Of so many addresses, the last ones with failures, these are counted.
ADDRESSES_MAX = 10_000
RETRY_AFTER_SECONDS = 1.0
# The log names at most so many in a second who were refused, each once.
REFUSED_LOGGED_MAX = 20
# More than what adding up parts of a second can lose.
_ROUNDING_SECONDS = 1e-6
MANAGERS: frozenset[Role] = frozenset({"manager"})
# What counts as a sale.
SALES: frozenset[type[Request]] = frozenset({Book, Hold, Wait})


class Who(NamedTuple):
    """Somebody on a connection. ``name`` is that of the token or the user; ``token`` is None without one."""

    name: str | None
    role: Role | None
    token: Token | None = None


class Access:
    """Decides by an access list.

    ``sales_per_second_max`` is for each name, in requests to book, hold and wait; 0 is no limit.
    """

    def __init__(self, access: AccessList, sales_per_second_max: int = 0) -> None:
        self._sales_per_second_max = sales_per_second_max
        # By address: in which second, and how many.
        self._failures: OrderedDict[str, tuple[int, int]] = OrderedDict()
        # By name, with all who have none as one: until when it has sold what it may.
        self._sold_until: dict[str | None, float] = {}
        # Who was refused in which second, by address, name and code, and is in the log.
        self._refused_second = 0
        self._refused: set[tuple[str, str | None, str]] = set()
        self.replace(access, {})

    def replace(self, access: AccessList, users: Mapping[str, int]) -> None:
        """Take another access list from now on. ``users`` are the uids of its users, as far as they are known."""
        self._tokens = [(token, token.sha256.encode()) for token in access.tokens]
        self._by_name = {token.name: token for token in access.tokens}
        self._anonymous = access.anonymous
        self._users = {uid: Who(f"user:{name}", access.users[name]) for name, uid in users.items()}

    def arrival(self, uid: int | None) -> Who:
        """Return who has connected: a user of this machine, by uid, or somebody unknown."""
        known = None if uid is None else self._users.get(uid)
        return known or Who(None, self._anonymous)

    def authenticate(self, request: Auth, address: str, now: float) -> Who:
        """Return who has this token. Raises TicketError (unauthorized, or busy after too many wrong ones)."""
        given = digest(request.token).encode()
        found: Token | None = None
        for token, sha256 in self._tokens:
            # All are compared, each in constant time.
            if hmac.compare_digest(given, sha256):
                found = token
        if found:
            return Who(found.name, found.role, found)
        second, failures = self._failures.get(address, (0, 0))
        if second == int(now) and failures >= FAILURES_PER_SECOND_MAX:
            message = "this token is not valid, and too many wrong ones came from your address; wait a second"
            raise TicketError("busy", message, retry_after=RETRY_AFTER_SECONDS)
        self._failures[address] = (int(now), failures + 1 if second == int(now) else 1)
        self._failures.move_to_end(address)
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)
        raise TicketError("unauthorized", f"{WRONG_TOKEN}; ask whoever runs the daemon for another one")

    def renewed(self, who: Who, uid: int | None) -> Who:
        """Return who somebody is after the list was replaced: somebody without a role if their token is gone."""
        if who.token is None:
            return self.arrival(uid)
        token = self._by_name.get(who.token.name)
        if token is None or token.sha256 != who.token.sha256:
            return Who(who.name, None, who.token)
        return Who(token.name, token.role, token)

    def unchecked(self, who: Who) -> frozenset[type[Request]]:
        """Return the kinds of requests that ``check`` never refuses to somebody, so that they need no check."""
        return allowed(who.role) - SALES if self._sales_per_second_max else allowed(who.role)

    def check(self, who: Who, request: Request, now: float) -> None:
        """Raise TicketError (unauthorized or busy) unless somebody may send this request now."""
        if not may(who.role, request.roles):
            raise _unauthorized(who, request)
        if self._sales_per_second_max and type(request) in SALES:
            self._count_sale(who.name, now)

    def check_from_ledger(self, who: Who, request: Request) -> None:
        """The same for what memory cannot answer."""
        if request.ledger_roles is not None and not may(who.role, request.ledger_roles):
            needed = any_of(request.ledger_roles)
            message = f"bookings and tickets need the role {needed}, and you are {who.role}"
            if isinstance(request, Show) and request.kind is UNSET:
                message = f"no event has the id {request.id}; {message}"
            raise TicketError("unauthorized", message)

    def log_refusal(self, address: str, peer: str, who: Who, request: Request, code: str, now: float) -> None:
        """Log that somebody was refused: once in a second, and not if many others were."""
        if self._refused_second != int(now):
            self._refused_second = int(now)
            self._refused.clear()
        refused = (address, who.name, code)
        if refused not in self._refused and len(self._refused) < REFUSED_LOGGED_MAX:
            self._refused.add(refused)
            by = "" if who.name is None else f" by={who.name}"
            log.info("refused %s code=%s peer=%s%s", request.__struct_config__.tag, code, peer, by)

    def _count_sale(self, name: str | None, now: float) -> None:
        """Let so many pass at once after a second of rest, and then one after each such part of a second."""
        until = max(self._sold_until.get(name, -math.inf), now - 1.0) + 1 / self._sales_per_second_max
        if until > now + _ROUNDING_SECONDS:
            most = self._sales_per_second_max
            message = f"{name or 'all without a token'} may book, hold or wait {most} times a second; nothing was done"
            raise TicketError("busy", message, retry_after=RETRY_AFTER_SECONDS)
        self._sold_until[name] = until


@cache
def allowed(role: Role | None) -> frozenset[type[Request]]:
    """Return the kinds of requests that somebody with this role may send, except ``auth``. A stranger may send none."""
    kinds = Request.__subclasses__()
    return frozenset(kind for kind in kinds if kind is not Auth and role is not None and may(role, kind.roles))


def _unauthorized(who: Who, request: Request) -> TicketError:
    needed = any_of(request.roles)
    command = request.__struct_config__.tag
    if who.role is None:
        return TicketError("unauthorized", f"{command} needs the role {needed}; {SAY_WHO}")
    return TicketError("unauthorized", f"{command} needs the role {needed}, and you are {who.role}")


class Gate:
    """What whoever is on one connection may do. ``now`` returns seconds.

    ``address`` counts them, and ``peer`` is their name in the log. ``uid`` is that of the user of this machine who has
    connected by the unix socket, if it is known. ``takes_tokens`` is False if a token that is sent can be
    read on its way. ``on_known`` is called when a stranger has said who they are.
    """

    def __init__(
        self,
        access: Access,
        address: str,
        now: Callable[[], float],
        *,
        peer: str = "",
        uid: int | None = None,
        takes_tokens: bool = True,
        on_known: Callable[[], None] = lambda: None,
    ) -> None:
        self._access = access
        self._address = address
        self._peer = peer
        self._now = now
        self._uid = uid
        self._takes_tokens = takes_tokens
        self._on_known = on_known
        self._set_who(access.arrival(uid))

    def _set_who(self, who: Who) -> None:
        self.who = who
        # Whether they may do nothing but say who they are.
        self.is_stranger = who.role is None
        # Whether they may see who did what.
        self.sees_names = may(who.role, MANAGERS)
        # The kinds of requests that need no ``check``: most of those that come.
        self.unchecked = self._access.unchecked(who)

    def authenticate(self, request: Auth) -> WelcomeReply:
        """Take a token. Raises TicketError (unauthorized or busy)."""
        if not self._takes_tokens:
            message = "this connection is not encrypted, and others could read your token; use TLS, or a new token"
            raise TicketError("unauthorized", message)
        self._set_who(self._access.authenticate(request, self._address, self._now()))
        self._on_known()
        assert self.who.name and self.who.role
        return WelcomeReply(self.who.name, self.who.role)

    def check(self, request: Request) -> None:
        """Raise TicketError (unauthorized or busy) unless they may send this now."""
        self._access.check(self.who, request, self._now())

    def log_refusal(self, request: Request, code: str) -> None:
        """Log that they were refused, unless that is in the log already."""
        self._access.log_refusal(self._address, self._peer, self.who, request, code, self._now())

    def check_from_ledger(self, request: Request) -> None:
        """The same for what memory cannot answer."""
        self._access.check_from_ledger(self.who, request)

    def refresh(self) -> bool:
        """Take what a new access list says of them. Return False if they had a role, and have none any more."""
        had_role = self.who.role is not None
        self._set_who(self._access.renewed(self.who, self._uid))
        return not had_role or self.who.role is not None
