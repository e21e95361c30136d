"""Owns the roles: what those who use a daemon are, and which of them may do what another one may. Pure."""

from collections.abc import Mapping
from typing import Literal, get_args

Role = Literal["reader", "seller", "door", "manager", "admin"]

# Each role may do what these may.
INCLUDED: Mapping[Role, frozenset[Role]] = {
    "reader": frozenset({"reader"}),
    "seller": frozenset({"reader", "seller"}),
    "door": frozenset({"reader", "door"}),
    "manager": frozenset({"reader", "seller", "door", "manager"}),
    "admin": frozenset({"reader", "seller", "door", "manager", "admin"}),
}
# Of a command that needs no role.
ANYBODY: frozenset[Role] = frozenset()

# What the daemon says to those who are not known, or not enough. A client for people says how that is done there.
SAY_WHO = "say who you are first, with auth and a token"
SAY_WHO_AT_ONCE = "the first line must say who you are, with auth and a token; connect again"
WRONG_TOKEN = "this token is not valid"


def any_of(roles: frozenset[Role]) -> str:
    """Return roles as they are named in a sentence: ``seller or door``."""
    return " or ".join(role for role in get_args(Role) if role in roles)


def may(role: Role | None, roles: frozenset[Role]) -> bool:
    """Whether somebody with this role, or with none, may do what needs one of ``roles``."""
    return not roles or (role is not None and not roles.isdisjoint(INCLUDED[role]))
