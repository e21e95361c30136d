"""Client: a method for every command, threads that share it, and what goes wrong as exceptions."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BREAK, SECONDS_MAX, SILENCE, answer, booked, environment, lying, nobody
from tests.daemon import Daemon
from ticketctl import CannotConnectError, Client, OutcomeUnknownError, RefusedError
from ticketd.wire.replies import BookingReply, EventReply, PongReply, TicketReply
from ticketd.wire.requests import Book, Ping

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client("127.0.0.1", daemon.port) as client:
        yield client


def test_a_sale_from_the_event_to_the_door(client: Client) -> None:
    event = client.create("Jazz Night", datetime(2037, 3, 11, 20, tzinfo=UTC), 100, id="jazz", per_buyer=4)
    assert (event.id, event.per_buyer) == ("jazz", 4)
    held = client.hold("jazz", 2, buyer="order 4711", booking="anna")
    assert (held.state, held.tickets) == ("held", [])
    bought = client.confirm("anna")
    assert (bought.state, len(bought.tickets)) == ("confirmed", 2)
    assert client.hold("jazz", 2, buyer="order 4711", booking="anna").replayed
    used = client.redeem(bought.tickets[0], event="jazz")
    assert isinstance(used, TicketReply)
    assert used.state == "redeemed"
    assert client.annul(used.id, reason="wrong door").state == "valid"
    assert client.cancel("anna", tickets=bought.tickets[:1]).cancelled == bought.tickets[:1]
    assert client.amend("jazz", per_buyer=None).per_buyer is None
    assert client.amend("jazz", paused=True).capacity == 100
    assert [event.id for event in client.list(after="3").events] == ["jazz"]
    assert [booking.buyer for booking in client.bookings(event="jazz").bookings] == ["order 4711"]
    assert client.help("ping").commands[0].usage == "ping"
    shown = client.show("jazz", kind="event")
    assert isinstance(shown, EventReply)
    assert shown.paused


def test_a_refusal_has_the_code_and_the_fields_of_the_reply(client: Client) -> None:
    with pytest.raises(RefusedError, match="event 1 has 100 left, fewer than 1000") as refused:
        client.book("1", 1_000)
    assert (refused.value.code, refused.value.reply.available) == ("sold_out", 100)
    # Errors may go from one process to another.
    again = pickle.loads(pickle.dumps(refused.value))
    assert (str(again), again.reply) == (str(refused.value), refused.value.reply)


@pytest.mark.parametrize("field", ["date", "opens", "closes"])
def test_a_time_without_a_zone_is_refused_before_it_is_sent(field: str) -> None:
    text: Any = "2037-03-11T20:00:00Z"
    with nobody() as port, Client("127.0.0.1", port) as client:
        fields: dict[str, Any] = {"date": datetime(2037, 3, 11, 20, tzinfo=UTC)}
        with pytest.raises(ValueError, match=f"^{field} needs a zone, such as tzinfo=UTC$"):
            client.create("Jazz Night", capacity=100, **(fields | {field: datetime(2037, 3, 11, 20)}))
        with pytest.raises(ValueError, match=f"^{field} needs a zone, such as tzinfo=UTC$"):
            client.amend("jazz", **{field: datetime(2037, 3, 11, 20)})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"^{field} must be a datetime, and it is a str$"):
            client.create("Jazz Night", capacity=100, **(fields | {field: text}))


def test_threads_share_a_client_and_its_connections(daemon: Daemon) -> None:
    with Client("127.0.0.1", daemon.port, connections_max=3) as client, ThreadPoolExecutor(12) as threads:
        names = [f"thread-{number}" for number in range(120)]
        bookings = threads.map(lambda name: client.book("3", 1, booking=name), names)
        assert [booking.id for booking in bookings] == names
        assert client.stats().connections <= 3


def test_a_call_that_gets_no_connection_in_time_was_not_sent() -> None:
    with (
        lying(SILENCE) as liar,
        Client("127.0.0.1", liar.port, timeout=0.5, connections_max=1) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        first = thread.submit(client.book, "1", 1)
        liar.asked()
        client.timeout = 0.1
        with pytest.raises(CannotConnectError, match=r"no connection to .* was free within 0\.1 s"):
            client.book("1", 1)
        assert isinstance(first.exception(SECONDS_MAX), OutcomeUnknownError)


def test_an_unknown_outcome_carries_the_request_that_settles_it() -> None:
    with lying(BREAK, BREAK, booked("b", replayed=True)) as liar, Client("127.0.0.1", liar.port) as client:
        with pytest.raises(OutcomeUnknownError, match="closed the connection without a reply") as unknown:
            client.book("1", 2)
        assert client.call(unknown.value.request).replayed
        asked = [liar.asked() for _ in range(3)]
    assert asked[0] == asked[1] == asked[2]
    again = pickle.loads(pickle.dumps(unknown.value))
    assert isinstance(again.request, Book)
    assert again.request.booking == asked[0]["booking"]


def test_a_busy_daemon_is_asked_again_with_the_same_id() -> None:
    busy = answer("error", code="busy", message="full", retry_after=0.01)
    with lying(busy, busy, booked("b")) as liar, Client("127.0.0.1", liar.port) as client:
        assert client.book("1", 2).id == "b"
        assert liar.asked() == liar.asked() == liar.asked()


def test_nobody_there_is_said_at_once() -> None:
    with nobody() as port, Client("127.0.0.1", port) as client, pytest.raises(CannotConnectError) as error:
        client.book("1", 1)
    assert str(error.value) == f"cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?"


def addresses(*ports: int) -> Callable[..., list[Any]]:
    """Return what a resolver says of a host with so many addresses."""
    return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]


def test_a_host_is_reached_by_the_first_address_that_answers(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as port, Client("shop.example", port) as client:
        monkeypatch.setattr(socket, "getaddrinfo", addresses(port, daemon.port))
        client.ping()


def test_all_addresses_of_a_host_share_the_time_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        # The queue of this one is full, so it does not answer.
        silent, last = (stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0)) for _ in range(2))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", addresses(silent.getsockname()[1], last.getsockname()[1]))
        with Client("shop.example", 1, timeout=0.2) as client, pytest.raises(CannotConnectError, match="timed out"):
            client.ping()
        last.setblocking(False)
        with pytest.raises(BlockingIOError):
            last.accept()


def test_a_process_that_forks_does_not_share_its_connections(client: Client) -> None:
    client.ping()
    child = os.fork()
    if child == 0:
        # The replies to it would come to its parent, if it used the same connection.
        os._exit(0 if client.book("2", 1, booking="child").id == "child" else 1)
    assert client.book("2", 1, booking="parent").id == "parent"
    assert os.waitpid(child, 0)[1] == 0
    assert isinstance(client.show("child"), BookingReply)


def test_a_process_that_forks_has_all_places_whatever_the_threads_of_its_parent_do(daemon: Daemon) -> None:
    with (
        lying(SILENCE) as liar,
        Client("127.0.0.1", liar.port, timeout=1, connections_max=1) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        held = thread.submit(client.ping)
        liar.asked()
        child = os.fork()
        if child == 0:
            client.where = client.where._replace(port=daemon.port)
            os._exit(0 if isinstance(client.ask(Ping()), PongReply) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert isinstance(held.exception(SECONDS_MAX), CannotConnectError)


def test_watch_is_an_iterator_of_changes(client: Client) -> None:
    seen = []
    for event in client.watch("2"):
        seen.append(event.available)
        if len(seen) == 3:
            break
        client.book("2", 1)
    assert seen == [seen[0], seen[0] - 1, seen[0] - 2]
    with pytest.raises(RefusedError, match="there is no event nope"):
        list(client.watch("nope"))


def test_watch_of_a_booking_yields_its_place_and_its_tickets(client: Client) -> None:
    client.create("Small", datetime(2037, 3, 11, tzinfo=UTC), 1, id="small")
    client.book("small", 1, booking="first")
    assert client.wait("small", 1, booking="second").position == 1
    assert client.wait("small", 1, booking="third", seconds=60, buyer="ben").position == 2
    seen = []
    for booking in client.watch(booking="third"):
        seen.append((booking.state, booking.position))
        if booking.state == "held":
            break
        if len(seen) == 1:
            client.release("second")
        else:
            client.cancel("first")
    assert seen == [("waiting", 2), ("waiting", 1), ("held", None)]
    with pytest.raises(RefusedError, match="there is no booking nope"):
        list(client.watch(booking="nope"))


def test_watch_ends_with_the_connection() -> None:
    event = answer(
        "event", id="1", name="E", date="2027-03-11T20:00:00Z", capacity=5, available=5, held=0, sold=0, version=0
    )
    with lying(answer("pong") + event, BREAK) as liar, Client("127.0.0.1", liar.port) as client:
        changes = client.watch()
        assert next(changes).available == 5
        with pytest.raises(CannotConnectError, match="is lost, and no more changes come"):
            next(changes)


def test_importing_the_library_takes_nothing_that_is_not_used(tmp_path: Path) -> None:
    program = (
        "import sys; from ticketctl import Client; print(sorted({'asyncio', 'ssl', 'rich'} & set(sys.modules)))\n"
        "from ticketctl import AsyncClient, Tls; print('asyncio' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=SECONDS_MAX,
    )
    assert ran.stdout == "[]\nTrue\n", ran.stderr
