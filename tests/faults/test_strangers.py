"""The bounded form of what strangers try, and of the storm in which the list of those who are none changes."""

import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from tests.faults import sighup, strangers, tokens
from tests.faults.guarded import Guard, Guarded, Way


def test_thousands_of_wrong_tokens_let_nobody_in(tmp_path: Path, chance: random.Random) -> None:
    print(tokens.run(chance, 5_000, tmp_path))


def test_1000_silent_strangers_keep_no_seller_from_selling(tmp_path: Path) -> None:
    figures = strangers.be_silent(tmp_path)
    assert figures["turned out"] >= 2 * (strangers.SILENT - strangers.STRANGERS_MAX)


def test_whatever_strangers_say_first_nothing_is_done(tmp_path: Path, chance: random.Random) -> None:
    figures = strangers.say_anything(chance, 300, tmp_path)
    assert figures.keys() >= {"bad_frame", "unauthorized", "frame_too_long"}


def test_greetings_of_tls_that_break_anywhere_hurt_nobody(tmp_path: Path, chance: random.Random) -> None:
    print(strangers.greet(chance, 150, tmp_path))


def test_sighup_in_a_storm_drops_nobody_who_is_allowed(tmp_path: Path, chance: random.Random) -> None:
    print(sighup.run(chance, 15, tmp_path))


@pytest.mark.parametrize("way", ["plain", "tls"])
def test_a_stranger_who_must_go_holds_no_place_any_longer(tmp_path: Path, way: Way) -> None:
    guard = Guard(tmp_path)
    flags = ("--connections-max", "20", "--loopback-places", "0", "--log-level", "warning")

    async def come(daemon: Guarded) -> None:
        async with AsyncExitStack() as stack:
            clerk = await stack.enter_async_context(await daemon.known(guard.secrets["admin"], "unix"))
            first = await stack.enter_async_context(await daemon.connect())
            # None of them goes by itself, or reads what it is told.
            for _ in range(60):
                await stack.enter_async_context(await daemon.connect())
                assert (await clerk.ask(b"ping"))["reply"] == "pong"
            await stack.enter_async_context(await daemon.known(guard.secrets["admin"]))
            assert [reply["code"] for reply in await first.rest()] == ["too_many_connections"]

    with guard.daemon("d", *flags, "--connections-per-address-max", "100", tls=way == "tls") as daemon:
        uvloop.run(come(daemon))
