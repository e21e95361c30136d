"""Tokens, failures and sales by the clock, and the places of strangers: pure, with a clock of the test."""

import hmac
from contextlib import suppress
from functools import partial
from hmac import compare_digest

import msgspec
import pytest

from tests.faults.input import REQUESTS
from tests.secured import ROLES, access, secret
from ticketd.access_file import AccessList
from ticketd.errors import TicketError
from ticketd.serving.access import FAILURES_PER_SECOND_MAX, REFUSED_LOGGED_MAX, Access, Gate
from ticketd.serving.strangers import Strangers
from ticketd.wire.requests import Auth, Book, Hold, Ping, Request, Show, Wait

BOOK, HOLD, WAIT, SHOW = Book("1", 1), Hold("1", 1), Wait("1", 1), Show("1")


class Clock:
    def __init__(self) -> None:
        # As the loop's after a month.
        self.now = 2_600_000.0

    def __call__(self) -> float:
        return self.now


def new_access(sales_per_second_max: int = 0) -> Access:
    return Access(msgspec.json.decode(access(), type=AccessList), sales_per_second_max)


def refusal(gate: Gate, request: Request) -> str | None:
    """Return the code with which a request is refused, or None."""
    try:
        if isinstance(request, Auth):
            gate.authenticate(request)
        else:
            gate.check(request)
    except TicketError as error:
        assert (error.code == "busy") == (error.retry_after is not None)
        return error.code
    return None


def known(access: Access, clock: Clock, name: str) -> Gate:
    gate = Gate(access, "192.0.2.1", clock)
    gate.authenticate(Auth(secret(name)))
    return gate


def auths(gate: Gate, name: str, times: int) -> list[str | None]:
    return [refusal(gate, Auth(secret(name))) for _ in range(times)]


# Tokens


@pytest.mark.parametrize("name", ROLES)
def test_a_token_says_who_somebody_is_and_what_they_may(name: str) -> None:
    gate = Gate(new_access(), "192.0.2.1", Clock())
    assert gate.is_stranger
    welcome = gate.authenticate(Auth(secret(name)))
    assert (welcome.name, welcome.role) == (name, name)
    assert not gate.is_stranger


@pytest.mark.parametrize("sales_per_second_max", [0, 1])
@pytest.mark.parametrize("name", ROLES)
def test_only_what_would_always_be_allowed_needs_no_check(name: str, sales_per_second_max: int) -> None:
    access, clock = new_access(sales_per_second_max), Clock()
    assert Gate(access, "192.0.2.1", clock).unchecked == set()
    gate = known(access, clock, name)
    requests = [each for each in REQUESTS if not isinstance(each, Auth)]
    allowed = {type(each) for each in requests if [refusal(gate, each) for _ in range(3)] == [None] * 3}
    assert gate.unchecked == allowed


@pytest.mark.parametrize("place", range(0, 43, 7))
def test_a_secret_with_one_other_character_is_wrong(place: int) -> None:
    gate = Gate(new_access(), "192.0.2.1", Clock())
    right = secret("admin")
    wrong = right[:place] + "0" + right[place + 1 :]
    assert refusal(gate, Auth(wrong)) == refusal(gate, Auth(right[:-1])) == refusal(gate, Auth(right + "-"))
    assert gate.is_stranger


@pytest.mark.parametrize("name", ["reader", "admin", "nobody"])
def test_each_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    compared: list[object] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return compare_digest(one, other)

    access = new_access()
    monkeypatch.setattr(hmac, "compare_digest", compare)
    with suppress(TicketError):
        access.authenticate(Auth(secret(name)), "192.0.2.1", 0.0)
    # Of one that is found, too: the time does not tell where.
    assert len(set(compared)) == len(compared) == len(ROLES)


# Failures


def test_ten_wrong_tokens_in_a_second_make_more_of_them_wait_and_no_right_one() -> None:
    access, clock = new_access(), Clock()
    gate, other = Gate(access, "192.0.2.1", clock), Gate(access, "192.0.2.2", clock)
    for _ in range(3):
        assert auths(gate, "wrong", FAILURES_PER_SECOND_MAX + 2) == [*["unauthorized"] * 10, "busy", "busy"]
        # A right one of a neighbour behind the same address is let in at once.
        assert auths(gate, "admin", 2) == [None, None]
        assert refusal(gate, Auth(secret("wrong"))) == "busy"
        assert refusal(other, Auth(secret("wrong"))) == "unauthorized"
        clock.now += 1


def test_failures_of_many_addresses_fill_no_memory() -> None:
    access, clock = new_access(), Clock()
    first = Gate(access, "first", clock)
    auths(first, "wrong", FAILURES_PER_SECOND_MAX)
    for number in range(10_001):
        refusal(Gate(access, f"address-{number}", clock), Auth(secret("wrong")))
    assert len(access._failures) == 10_000
    # The address that failed longest ago is forgotten.
    assert refusal(first, Auth(secret("wrong"))) == "unauthorized"


def test_the_log_names_whoever_is_refused_once_in_a_second(caplog: pytest.LogCaptureFixture) -> None:
    access, clock = new_access(), Clock()
    caplog.set_level("INFO")
    gates = [
        Gate(access, f"address-{number}", clock, peer=f"peer-{number}") for number in range(REFUSED_LOGGED_MAX + 5)
    ]
    for _ in range(3):
        for gate in gates:
            gate.log_refusal(BOOK, "unauthorized")
    assert caplog.messages == [f"refused book code=unauthorized peer=peer-{n}" for n in range(REFUSED_LOGGED_MAX)]
    clock.now += 1
    gates[-1].log_refusal(BOOK, "busy")
    assert caplog.messages[REFUSED_LOGGED_MAX:] == [f"refused book code=busy peer=peer-{REFUSED_LOGGED_MAX + 4}"]


# Sales


@pytest.mark.parametrize("most", [1, 3, 7, 10, 1_000])
def test_a_token_sells_so_often_a_second_and_no_more(most: int) -> None:
    access, clock = new_access(most), Clock()
    one, two = known(access, clock, "seller"), known(access, clock, "seller")
    began = clock.now
    for second in range(3):
        clock.now = began + second
        codes = [refusal((one, two)[each % 2], (BOOK, HOLD, WAIT)[each % 3]) for each in range(most + 2)]
        assert codes == [*[None] * most, "busy", "busy"]
        # Whatever else is asked does not count, and others have sales of their own.
        assert refusal(one, SHOW) is refusal(one, Ping()) is None
    assert refusal(known(access, clock, "manager"), BOOK) is None


def test_all_without_a_token_sell_as_one() -> None:
    clock = Clock()
    access = Access(AccessList(anonymous="seller"), 4)
    gates = [Gate(access, f"192.0.2.{number}", clock) for number in range(8)]
    assert [refusal(gate, BOOK) for gate in gates] == [None] * 4 + ["busy"] * 4
    with pytest.raises(TicketError, match="all without a token may book, hold or wait 4 times"):
        gates[0].check(BOOK)


def test_sales_that_were_refused_do_not_count() -> None:
    access, clock = new_access(4), Clock()
    gate = known(access, clock, "seller")
    passed = 0
    for _ in range(8 * 16):
        clock.now += 1 / 16
        passed += sum(refusal(gate, BOOK) is None for _ in range(10))
    assert passed == 4 + 8 * 4 - 1


def test_without_a_limit_sales_are_not_counted() -> None:
    gate = known(new_access(), Clock(), "seller")
    assert {refusal(gate, BOOK) for _ in range(1_000)} == {None}


# Strangers


def test_the_oldest_of_the_address_with_the_most_has_to_go() -> None:
    ended: list[str] = []
    strangers = Strangers(4)

    def come(*names: str) -> None:
        for name in names:
            strangers.add(name, name[0], partial(ended.append, name))

    for each in ("a1", "b1", "b2", "c1"):
        come(each)
    assert ended == []
    come("d1")
    assert ended == ["b1"]
    # Each address has one now: the first of all has to go.
    come("e1")
    assert ended == ["b1", "a1"]
    # Who has become known, or is gone, makes room.
    strangers.discard("c1")
    strangers.discard("c1")
    strangers.discard("a1")
    come("f1")
    assert (ended, len(strangers)) == (["b1", "a1"], 4)
    strangers.end_all()
    assert sorted(ended[2:]) == ["b2", "d1", "e1", "f1"]
    assert len(strangers) == 0


def test_one_address_with_many_strangers_keeps_no_other_out() -> None:
    ended: list[int] = []
    strangers = Strangers(10)
    strangers.add("seller", "other", partial(ended.append, -1))
    for number in range(1_000):
        strangers.add(number, "attacker", partial(ended.append, number))
    assert ended == list(range(991))
