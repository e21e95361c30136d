"""Client and AsyncClient where not everybody may do everything: tokens, TLS, unix sockets."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import answer, lying
from tests.guarded import Guarded, certificate, guarded, write_token
from tests.secured import short_folder
from ticketctl import AsyncClient, CannotConnectError, Client, ClientError, RefusedError, Tls, read_token
from ticketctl.link import Token
from ticketd.wire.requests import Book, Request

# A connection to this address is one to 127.0.0.1, but does not look like it.
LOOKS_REMOTE = "::ffff:127.0.0.1"


@dataclass
class Shop:
    """A daemon that speaks TLS, and on a unix socket; its certificate, and one that is not its own."""

    guarded: Guarded
    certificate: str
    other: str
    unix: str

    def token(self, name: str) -> Token:
        return read_token(self.guarded.token_file(name))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("shop")
    own, key = certificate(folder, "daemon", "IP:127.0.0.1")
    other, _ = certificate(folder, "other", "IP:127.0.0.1")
    with short_folder() as short:
        socket = str(short / "s")
        with guarded(folder, "--tls-certificate", own, "--tls-key", key, "--unix", socket) as daemon:
            yield Shop(daemon, own, other, f"unix:{socket}")


def blocking(request: Request, host: str, port: int, **more: Any) -> Any:
    with Client(host, port, **more) as client:
        return client.call(request)


def on_a_loop(request: Request, host: str, port: int, **more: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(host, port, **more) as client:
            return await client.call(request)

    return asyncio.run(run())


both = pytest.mark.parametrize("call", [blocking, on_a_loop])


@both
def test_it_sells_over_tls_with_a_token(call: Any, shop: Shop) -> None:
    tls = Tls(shop.certificate)
    booking = call(Book("1", 1), "127.0.0.1", shop.guarded.port, tls=tls, token=shop.token("seller"))
    assert booking.state == "confirmed"
    with pytest.raises(RefusedError, match="book needs the role seller, and you are reader") as refused:
        call(Book("1", 1), "127.0.0.1", shop.guarded.port, tls=tls, token=shop.token("reader"))
    assert refused.value.code == "unauthorized"


@both
def test_it_sells_over_a_unix_socket(call: Any, shop: Shop) -> None:
    assert call(Book("1", 1), shop.unix, 1, token=shop.token("seller")).state == "confirmed"


@both
def test_a_certificate_that_is_not_trusted_is_refused(call: Any, shop: Shop) -> None:
    for tls in (Tls(shop.other), Tls()):
        with pytest.raises(CannotConnectError, match=r"cannot talk to .*: its certificate is not accepted: self"):
            call(Book("1", 1), "127.0.0.1", shop.guarded.port, tls=tls, token=shop.token("seller"))
    with lying(answer("pong")) as liar, pytest.raises(CannotConnectError, match=r"cannot talk to .*: it does not"):
        call(Book("1", 1), "127.0.0.1", liar.port, tls=Tls())


@both
def test_a_wrong_token_is_refused(call: Any, shop: Shop) -> None:
    with pytest.raises(RefusedError, match="this token is not valid") as refused:
        call(Book("1", 1), shop.unix, 1, token=Token("x" * 43))
    assert refused.value.code == "unauthorized"


async def test_a_token_that_was_replaced_is_read_again_in_the_middle_of_a_sale(tmp_path: Path) -> None:
    with guarded(tmp_path) as shop:
        async with AsyncClient("127.0.0.1", shop.port, token=read_token(shop.token_file("reader"))) as client:
            over = asyncio.Event()

            async def reads_on() -> None:
                while not over.is_set():
                    await client.list()

            readers = asyncio.gather(*(reads_on() for _ in range(10)))
            with pytest.raises(RefusedError, match="book needs the role seller, and you are reader"):
                await client.book("1", 1)
            write_token(Path(shop.token_file("reader")), shop.secrets["seller"])
            assert (await client.book("1", 1)).state == "confirmed"
            over.set()
            await readers


@both
def test_a_token_goes_unencrypted_to_this_machine_only(call: Any, shop: Shop) -> None:
    with lying() as liar:
        with pytest.raises(ClientError, match=r"the token would go to .* unencrypted"):
            call(Book("1", 1), LOOKS_REMOTE, liar.port, token=shop.token("seller"))
        assert not liar.asked_more()


@both
def test_an_address_that_does_not_exist_is_named(call: Any, shop: Shop) -> None:
    with pytest.raises(CannotConnectError, match=r"cannot reach unix:/nowhere \(no such file or directory\)"):
        call(Book("1", 1), "unix:/nowhere", 1)
    with pytest.raises(CannotConnectError, match=r"cannot reach no such host:1 \("):
        call(Book("1", 1), "no such host", 1)
