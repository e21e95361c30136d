"""A token that is replaced in its file while ticketctl runs: what runs for long goes on with the new one."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.conftest import answer, ctl, interrupt, lying, start_ctl
from tests.guarded import Guarded, guarded, write_token
from tests.ticketctl.test_door import at_end_of_input, door, scan, verdict
from tests.ticketctl.test_render import FACTS
from tests.ticketctl.test_shell import entered
from tests.ticketctl.test_token_shell import shell
from ticketctl.tokens import read_token

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Guarded]:
    with guarded(tmp_path) as shop:
        yield shop


def test_a_door_lets_in_with_its_new_token(shop: Guarded) -> None:
    for booking in ("anna", "ben"):
        ctl("--token-file", shop.token_file("seller"), "book", "1", "1", "--booking", booking, port=shop.port)
    with door("--token-file", shop.token_file("door"), "--json", "door", "1", port=shop.port) as process:
        scan(process, "anna")
        assert verdict(process)["verdict"] == "OK"
        shop.replace("door", "door")
        shop.remove("door")
        scan(process, "ben")
        assert verdict(process)["verdict"] == "OK"
        assert at_end_of_input(process)[0] == 0


def test_a_door_whose_role_is_taken_back_tries_its_new_token(tmp_path: Path) -> None:
    welcome = answer("welcome", name="door", role="door")
    event = answer("event", id="1", name="E", **FACTS)
    refused = answer("error", code="unauthorized", message="redeem needs the role door, and you are reader")
    redeemed = answer("ticket", id="t", event="1", booking="b", state="redeemed")
    file = write_token(tmp_path / "token", "a" * 43)
    with lying(welcome, event, welcome, refused, welcome, redeemed) as liar:
        with door("--token-file", file, "--json", "door", "1", port=liar.port) as process:
            asked = [liar.asked() for _ in range(3)]
            write_token(Path(file), "b" * 43)
            scan(process, "t")
            assert verdict(process)["verdict"] == "OK"
            assert at_end_of_input(process)[0] == 0
        asked += [liar.asked() for _ in range(3)]
    assert [each.get("token", each["cmd"])[:6] for each in asked] == [
        *("aaaaaa", "show", "aaaaaa", "redeem", "bbbbbb", "redeem")
    ]
    # The same scan, so that it counts once.
    assert asked[3] == asked[5]


def test_a_watch_goes_on_with_its_new_token(shop: Guarded) -> None:
    watching = start_ctl("--token-file", shop.token_file("reader"), "--json", "watch", "1", port=shop.port)
    assert watching.stdout
    assert msgspec.json.decode(watching.stdout.readline())["available"] == 100
    shop.replace("reader", "reader")
    shop.remove("reader")
    # The state is known, so only changes follow.
    ctl("--token-file", shop.token_file("seller"), "book", "1", "2", port=shop.port)
    assert msgspec.json.decode(watching.stdout.readline())["available"] == 98
    assert interrupt(watching)[0] == 130


def test_the_shell_goes_on_with_its_new_token(shop: Guarded, tmp_path: Path) -> None:
    with shell(shop, shop.token_file("reader"), tmp_path) as (screen, _):
        assert "book needs the role seller, and you are reader" in entered(screen, shop.port, "book 1 1")
        shop.replace("reader", "seller")
        assert "99 left" in entered(screen, shop.port, "book 1 1")
        shop.remove("reader-2")
        assert "is not valid" in entered(screen, shop.port, "book 1 1")


def test_a_token_file_that_is_gone_or_spoilt_means_the_token_of_before(shop: Guarded) -> None:
    file = Path(shop.token_file("door"))
    token = read_token(str(file))
    for spoil in (lambda: file.chmod(0o644), lambda: file.write_text(""), file.unlink):
        spoil()
        assert token.secret == shop.secrets["door"]
