"""What a program hands to the library is checked before anything is sent, and the message says what to do instead."""

import math
import pydoc
from typing import Any

import pytest

import ticketctl
from tests.conftest import nobody
from ticketctl import AsyncClient, CannotConnectError, Client
from ticketd.wire.requests import Amend, Annul, Auth, Book, Delete, Ping, Request, Watch

NO_REQUEST: Any = "ping"


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("timeout", value) for value in (0, -1, math.inf, math.nan, 86_401, None, "1")),
        *(("connections_max", value) for value in (0, -1, None)),
        *(("port", value) for value in (0, 65_536, "8080")),
    ],
)
def test_limits_that_cannot_be_are_refused_at_once(client: Any, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*, and it is {value!r}$"):
        client(**{name: value})


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Watch(), r"^watch has many replies: use follow\(\) or watch\(\)$"),
        (Auth("s" * 43), "^auth is no call: make a client with this token$"),
        (NO_REQUEST, "^a request is a Struct of ticketd.wire.requests, such as Book, and this is 'ping'$"),
    ],
)
async def test_what_is_no_call_is_refused(request_: Request, says: str) -> None:
    with nobody() as port, Client("127.0.0.1", port) as client:
        with pytest.raises(TypeError, match=says):
            client.call(request_)
        with pytest.raises(TypeError, match=says):
            next(client.ask_all([request_]))
        async with AsyncClient("127.0.0.1", port) as async_client:
            with pytest.raises(TypeError, match=says):
                await async_client.call(request_)


async def test_ask_and_follow_refuse_what_the_other_takes() -> None:
    with nobody() as port, Client("127.0.0.1", port) as client:
        async with AsyncClient("127.0.0.1", port) as async_client:
            with pytest.raises(TypeError, match=r"^watch has many replies"):
                client.ask(Watch())
            with pytest.raises(TypeError, match=r"^watch has many replies"):
                await async_client.ask(Watch())
            with pytest.raises(TypeError, match=r"^ping has one reply: use call\(\)$"):
                next(client.follow(Ping()))
            with pytest.raises(TypeError, match=r"^ping has one reply: use call\(\)$"):
                await anext(async_client.follow(Ping()))


@pytest.mark.parametrize("request_", [Amend("1", capacity=5), Annul("b.t"), Delete("1")])
def test_ask_all_refuses_what_must_not_be_sent_again(request_: Request) -> None:
    name = request_.__struct_config__.tag
    with (
        nobody() as port,
        Client("127.0.0.1", port) as client,
        pytest.raises(ValueError, match=f"^{name} cannot be one of many, because it must not be sent again"),
    ):
        next(client.ask_all([Book("1", 1), request_]))


async def test_a_host_that_cannot_be_is_said_at_once() -> None:
    with Client("a\0b") as client, pytest.raises(CannotConnectError, match=r"^cannot reach .*; check --host"):
        client.ping()
    async with AsyncClient("a\0b") as async_client:
        with pytest.raises(CannotConnectError, match=r"^cannot reach .*; check --host"):
            await async_client.ping()


async def test_one_str_is_not_taken_for_a_list_of_tickets() -> None:
    with nobody() as port, Client("127.0.0.1", port) as client:
        with pytest.raises(TypeError, match=r"^tickets must be a list of str, and it is a single str$"):
            client.cancel("b", tickets="abc")
        async with AsyncClient("127.0.0.1", port) as async_client:
            with pytest.raises(TypeError, match=r"^tickets must be a list of str, and it is a single str$"):
                await async_client.cancel("b", tickets="abc")


def test_the_module_shows_what_it_has() -> None:
    assert {*ticketctl.__all__} <= {*dir(ticketctl)}
    names: dict[str, Any] = {}
    exec("from ticketctl import *", names)
    assert {*ticketctl.__all__} <= {*names}
    assert "class AsyncClient" in pydoc.plain(pydoc.render_doc(ticketctl))
