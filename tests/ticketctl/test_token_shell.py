"""The shell with a token: a typed one is not kept, and one that is removed ends what it may do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import terminal
from tests.guarded import Guarded, guarded, write_token
from tests.ticketctl.test_shell import CTRL_D, TAB, UP, entered, pasted, prompted

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

SECRET = "Sn0wWh1te-and-the-seven_dwarfs-in-the-woods"


@contextmanager
def shell(shop: Guarded, token_file: str, state: Path) -> Iterator[tuple[Any, str]]:
    """A shell with a token, and its greeting."""
    with terminal("--token-file", token_file, port=shop.port, env={"XDG_STATE_HOME": str(state)}) as screen:
        yield screen, prompted(screen, shop.port)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Guarded]:
    with guarded(tmp_path) as shop:
        yield shop


def test_the_shell_greets_whoever_has_a_token(shop: Guarded, tmp_path: Path) -> None:
    with shell(shop, shop.token_file("admin"), tmp_path) as (_, greeting):
        assert "2 events, as admin (admin). Type help" in greeting
    with shell(shop, shop.token_file("reader"), tmp_path) as (_, greeting):
        assert f"ticketd at 127.0.0.1:{shop.port}, as reader (reader). Type help" in greeting
    with shell(shop, write_token(tmp_path / "wrong", SECRET), tmp_path) as (_, greeting):
        assert f"the token in {tmp_path / 'wrong'} is not valid" in greeting


def test_the_help_has_what_the_role_may_do(shop: Guarded, tmp_path: Path) -> None:
    with shell(shop, shop.token_file("door"), tmp_path) as (screen, _):
        help_ = entered(screen, shop.port, "help")
        assert all(usage in help_ for usage in ("redeem TICKET", "annul TICKET", "door EVENT", "exit "))
        assert not any(usage in help_ for usage in ("book EVENT", "cancel BOOKING", "create NAME", "import FILE"))
        assert "not for the role door: amend, backup, book, bookings, cancel, " in help_
        # Each of them can still be looked up.
        assert "cancel BOOKING" in entered(screen, shop.port, "help cancel")


@pytest.mark.parametrize("line", [f"auth {SECRET}", f"AUTH {SECRET}", f"auht {SECRET}", f"ping\nauth {SECRET}"])
def test_a_token_that_is_typed_is_not_kept_in_the_history(shop: Guarded, tmp_path: Path, line: str) -> None:
    with shell(shop, shop.token_file("reader"), tmp_path) as (screen, _):
        entered(screen, shop.port, "list --limit 1")
        shown = entered(screen, shop.port, pasted(line))
        assert ("a token is not typed" in shown) == ("auht" not in line)
        # What is typed last is the first that the history offers.
        assert "Event 1" in entered(screen, shop.port, UP)
        screen.send(CTRL_D)
        screen.wait()
    history = (tmp_path / "ticketctl" / "history").read_text()
    assert "+list --limit 1" in history
    assert SECRET not in history


def test_ids_of_bookings_are_kept_in_the_history(shop: Guarded, tmp_path: Path) -> None:
    line = "show 019ab2cd-77aa-7123-8456-0123456789ab"
    with shell(shop, shop.token_file("seller"), tmp_path) as (screen, _):
        entered(screen, shop.port, line)
        screen.send(CTRL_D)
        screen.wait()
    assert f"+{line}" in (tmp_path / "ticketctl" / "history").read_text()


def test_the_shell_completes_with_its_token_and_offers_no_auth(shop: Guarded, tmp_path: Path) -> None:
    with shell(shop, shop.token_file("seller"), tmp_path) as (screen, _):
        screen.send(pasted("book Event"))
        screen.expect_exact("Event 2, 200 left")
        shown = entered(screen, shop.port, TAB + "2")
        assert "2 tickets of event 1, confirmed; 98 left" in shown
        assert "auth" not in entered(screen, shop.port, "help")


def test_a_token_that_is_removed_ends_what_the_shell_may_do(shop: Guarded, tmp_path: Path) -> None:
    with shell(shop, shop.token_file("seller"), tmp_path) as (screen, _):
        assert "98 left" in entered(screen, shop.port, "book 1 2")
        shop.remove("seller")
        shown = entered(screen, shop.port, "book 1 2")
        assert f"the token in {shop.token_file('seller')} is not valid" in shown
    with shell(shop, shop.token_file("reader"), tmp_path) as (screen, _):
        assert " 98 " in entered(screen, shop.port, "show 1")


def test_the_shell_says_who_it_is_again_to_a_daemon_that_is_back(shop: Guarded, tmp_path: Path) -> None:
    with shell(shop, shop.token_file("seller"), tmp_path) as (screen, _):
        assert "98 left" in entered(screen, shop.port, "book 1 2")
        shop.daemon.kill()
        assert "Is ticketd running?" in entered(screen, shop.port, "book 1 2")
        with shop.again():
            assert "96 left" in entered(screen, shop.port, "book 1 2")
