"""Who may do what: every command as every role, over TCP, TLS and a unix socket. A real daemon."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon import Daemon, running, write_events
from tests.secured import ME, ROLES, RSA, Reached, over_tls, over_unix, plain, secret, short_folder, write_access
from ticketd.wire.commands import commands
from ticketd.wire.requests import Request

READERS = {"reader", "seller", "door", "manager", "admin"}
SELLERS = {"seller", "manager", "admin"}
DOORS = {"door", "manager", "admin"}
SELLERS_AND_DOORS = SELLERS | DOORS
MANAGERS = {"manager", "admin"}
ADMINS = {"admin"}
ANYBODY = {*ROLES, None}
TICKET = "nope.123456789abc"

# Of each command, one line or more, and who may send it. None is somebody who has not said who they are.
ALLOWED: dict[str, dict[str, set[str | None] | set[str]]] = {
    "list": {"list": READERS, "list --limit 1": READERS},
    "show": {
        "show 1": READERS,
        "show 1 --kind event": READERS,
        "show 1 --kind booking": SELLERS_AND_DOORS,
        "show nope": SELLERS_AND_DOORS,
        f"show {TICKET}": SELLERS_AND_DOORS,
    },
    "create": {"create Jazz 2027-03-11T20:00:00Z 5 --id jazz": MANAGERS},
    "book": {"book 1 1": SELLERS},
    "hold": {"hold 1 1": SELLERS},
    "wait": {"wait 1 1": SELLERS},
    "extend": {"extend nope 60": SELLERS},
    "confirm": {"confirm nope": SELLERS},
    "release": {"release nope": SELLERS},
    "cancel": {"cancel nope": MANAGERS},
    "reissue": {f"reissue {TICKET}": MANAGERS},
    "redeem": {f"redeem {TICKET}": DOORS, "redeem nope": DOORS},
    "annul": {f"annul {TICKET}": DOORS},
    "amend": {"amend 1 --name Rock": MANAGERS},
    "delete": {"delete nope": MANAGERS},
    "watch": {"watch": READERS, "watch 1": READERS, "watch --booking nope": SELLERS_AND_DOORS},
    "bookings": {"bookings": MANAGERS, "bookings --event 1": MANAGERS},
    "stats": {"stats": ADMINS},
    "auth": {f"auth {secret('reader')}": ANYBODY},
    "ping": {"ping": ANYBODY},
    "ready": {"ready": ANYBODY},
    "help": {"help": ANYBODY, "help book": ANYBODY},
    "backup": {"backup friday": ADMINS},
}
LINES = {line: roles for lines in ALLOWED.values() for line, roles in lines.items()}


def test_every_command_says_who_may_use_it() -> None:
    assert set(ALLOWED) == set(commands())
    # Without roles of its own, nobody may use it: there is nothing to inherit.
    assert not hasattr(Request, "roles")
    for name, command in commands().items():
        roles = vars(command.request)["roles"]
        assert roles <= set(ROLES)
        assert bool(roles) == (None not in set().union(*ALLOWED[name].values()))


@dataclass
class Guarded:
    """A guarded daemon, and the ways to it."""

    daemon: Daemon
    connect: Callable[[], Reached]


@pytest.fixture(scope="module", params=["tcp", "tls", "unix"])
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    write_events(folder, 1_000)
    flags = ["--access", write_access(folder / "access.json")]
    with short_folder() as short:
        path = short / "s"
        if request.param == "tls":
            flags += ["--tls-certificate", str(RSA)]
        elif request.param == "unix":
            flags += ["--unix", str(path)]
        with running(folder, *flags) as daemon:
            ways = {"tcp": lambda: plain(daemon), "tls": lambda: over_tls(daemon), "unix": lambda: over_unix(path)}
            yield Guarded(daemon, ways[request.param])


def allowed(guarded: Guarded, role: str | None, line: str) -> bool:
    """Send one line as somebody with this role, and return whether it was allowed."""
    with guarded.connect() as connection:
        if role:
            assert connection.auth(role) == {"reply": "welcome", "name": role, "role": role}
        reply = connection.ask(line)
        refused = reply.get("code") == "unauthorized"
        assert bool(re.search("needs? the role", reply.get("message", ""))) == refused
        if role and reply["reply"] != "event":
            # Whatever came of it, the connection goes on.
            assert connection.ask("ping") == {"reply": "pong"}
    return not refused


@pytest.mark.parametrize("role", [*ROLES, None])
def test_everybody_may_do_what_their_role_may(guarded: Guarded, role: str | None) -> None:
    assert {line: allowed(guarded, role, line) for line in LINES} == {line: role in LINES[line] for line in LINES}


def test_what_was_refused_was_not_done(guarded: Guarded) -> None:
    for role in ("reader", "door", None):
        assert not allowed(guarded, role, f"book 1 1 --booking by-{role}")
        assert not allowed(guarded, role, f"create Jazz 2027-03-11T20:00:00Z 5 --id by-{role}")
    with guarded.connect() as connection:
        connection.auth("admin")
        for role in ("reader", "door", None):
            assert connection.ask(f"show by-{role}")["code"] == "not_found"


def test_a_reader_is_told_that_no_event_has_the_id(guarded: Guarded) -> None:
    needed = "bookings and tickets need the role seller or door, and you are reader"
    with guarded.connect() as connection:
        connection.auth("reader")
        assert connection.ask("show jaz")["message"] == f"no event has the id jaz; {needed}"
        assert connection.ask("show jaz --kind booking")["message"] == needed


@pytest.mark.parametrize("role", ROLES)
def test_users_of_this_machine_have_roles_without_a_token(tmp_path: Path, short_path: Path, role: str) -> None:
    write_events(tmp_path, 100)
    file = write_access(tmp_path / "access.json", users={ME: role, "somebody-else": "admin"})
    with running(tmp_path, "--access", file, "--unix", str(short_path)) as daemon:
        by_socket = Guarded(daemon, lambda: over_unix(short_path))
        found = {line: allowed(by_socket, None, line) for line in LINES}
        assert found == {line: bool({role, None} & LINES[line]) for line in LINES}
        # On the port of the same daemon they are strangers.
        assert not allowed(Guarded(daemon, lambda: plain(daemon)), None, "list")
