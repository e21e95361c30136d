"""One address does not lock the others out, and the operator least of all. A real daemon, and addresses of loopback."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon import Connection, Daemon, running, unasked, until
from ticketd.config import Limits
from ticketd.errors import TicketError
from ticketd.serving.places import Places

ATTACKER, OTHER, OPERATOR = "127.0.0.2", "127.0.0.3", "127.0.0.1"
# Of eight places each address gets two, and the operator's two are kept.
FLAGS = ("--connections-max", "8", "--loopback-places", "2", "--connections-waiting-seconds-max", "30")


def served(stack: ExitStack, daemon: Daemon, address: str) -> Connection | None:
    """Connect, and return the connection if it is served, or None if it is refused."""
    connection = stack.enter_context(daemon.connect(address))
    reply = connection.ask("ping")
    if reply == {"reply": "pong"}:
        return connection
    assert unasked(reply) == "too_many_connections"
    assert connection.rest() == b""
    return None


def test_one_address_gets_a_quarter_and_others_get_in(tmp_path: Path) -> None:
    with running(tmp_path, *FLAGS) as daemon, ExitStack() as stack:
        attack = [served(stack, daemon, ATTACKER) for _ in range(6)]
        assert [each is not None for each in attack] == [True] * 2 + [False] * 4
        assert served(stack, daemon, OTHER)
        # Who leaves makes room for others of the same address.
        assert attack[0]
        attack[0].close()
        with daemon.connect() as operator:
            until(lambda: operator.ask("stats")["connections"] == 3)
        assert served(stack, daemon, ATTACKER)
        assert not served(stack, daemon, ATTACKER)


def test_the_operator_gets_in_when_many_addresses_take_all(tmp_path: Path) -> None:
    with running(tmp_path, *FLAGS) as daemon, ExitStack() as stack:
        addresses = [f"127.0.1.{number}" for number in range(1, 7)]
        crowd = [served(stack, daemon, address) for address in addresses]
        assert all(crowd)
        late = stack.enter_context(daemon.connect(OTHER))
        late.send(b"ping\n")
        operators = [served(stack, daemon, OPERATOR) for _ in range(2)]
        assert operators[0]
        assert operators[0].ask("stats")["connections_waiting"] == 1
        # No place of the operator is for others.
        assert operators[1]
        operators[1].close()
        until(lambda: operators[0] and operators[0].ask("stats")["connections"] == 7)
        assert operators[0].ask("stats")["connections_waiting"] == 1
        assert crowd[0]
        crowd[0].close()
        assert late.read() == {"reply": "pong"}


def test_loopback_is_exempt_unless_no_places_are_kept_for_it(tmp_path: Path) -> None:
    with running(tmp_path, *FLAGS) as daemon, ExitStack() as stack:
        assert all(served(stack, daemon, OPERATOR) for _ in range(8))
    with running(tmp_path, *FLAGS, "--loopback-places", "0") as daemon, ExitStack() as stack:
        assert [served(stack, daemon, OPERATOR) is not None for _ in range(3)] == [True, True, False]
    with running(tmp_path, *FLAGS, "--connections-per-address-max", "3") as daemon, ExitStack() as stack:
        assert [served(stack, daemon, OTHER) is not None for _ in range(4)] == [True, True, True, False]


async def test_a_network_of_ipv6_counts_as_one_address() -> None:
    places = Places(Limits(connections_per_address_max=2))
    first = await places.take("2001:db8::1")
    await places.take("2001:db8::1:2:3:4")
    with pytest.raises(TicketError, match="one address may have"):
        await places.take("2001:db8::2")
    await places.take("2001:db8:0:1::2")
    places.release("2001:db8::1", first)
    await places.take("2001:db8::2")
    for _ in range(3):
        await places.take("::1")
