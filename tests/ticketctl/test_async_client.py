"""AsyncClient: many calls on few connections, each with its own reply, and what becomes of those without one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import answer, booked, nobody
from tests.daemon import Daemon
from tests.scripted import BREAK, SECONDS_MAX, Answer, scripted
from ticketctl import AsyncClient, CannotConnectError, OutcomeUnknownError, RefusedError
from ticketctl.protocol import REQUESTS_IN_FLIGHT_MAX
from ticketd.wire.replies import ErrorReply
from ticketd.wire.requests import Book, Ping, Show

FULL = answer("error", code="busy", message="too many are before you", retry_after=0.02)
LONG_FULL = answer("error", code="busy", message="too many are before you", retry_after=60)


@pytest_asyncio.fixture
async def client(daemon: Daemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("127.0.0.1", daemon.port) as client:
        yield client


def done(request: dict[str, Any]) -> bytes:
    """Answer any request as a daemon does that has done it."""
    if request["cmd"] == "ping":
        return answer("pong")
    return booked(request.get("booking", "b"))


async def test_calls_at_once_share_a_connection_and_get_their_own(client: AsyncClient, daemon: Daemon) -> None:
    names = [f"at-once-{number}" for number in range(REQUESTS_IN_FLIGHT_MAX)]
    before = (await client.stats()).connections
    bookings = await asyncio.gather(*(client.book("3", 1, booking=name) for name in names))
    assert [booking.id for booking in bookings] == names
    assert len({booking.version for booking in bookings}) == len(names)
    assert (await client.stats()).connections == before


async def test_a_refusal_is_raised_with_what_the_daemon_says(client: AsyncClient) -> None:
    with pytest.raises(RefusedError, match="event 1 has 100 left, fewer than 1000") as refused:
        await client.book("1", 1000)
    assert refused.value.code == "sold_out"
    assert refused.value.reply.available == 100


async def test_past_the_places_of_all_connections_calls_wait() -> None:
    names = [f"b{number}" for number in range(3 * REQUESTS_IN_FLIGHT_MAX)]

    def answered(request: dict[str, Any]) -> Answer:
        return done(request) if server.connections > 2 else None

    async with scripted(answered) as server, AsyncClient("127.0.0.1", server.port, connections_max=2) as client:
        calls = [asyncio.create_task(client.book("1", 1, booking=name)) for name in names]
        await server.wait_asked(2 * REQUESTS_IN_FLIGHT_MAX)
        assert [request["booking"] for request in server.asked] == names[: 2 * REQUESTS_IN_FLIGHT_MAX]
        assert server.connections == 2
        server.close()
        assert [booking.id for booking in await asyncio.gather(*calls)] == names


async def test_a_call_that_gets_no_turn_in_time_was_not_sent() -> None:
    async with (
        scripted(lambda _: None) as server,
        AsyncClient("127.0.0.1", server.port, connections_max=1) as client,
    ):
        sent = [asyncio.create_task(client.book("1", 1)) for _ in range(REQUESTS_IN_FLIGHT_MAX)]
        await server.wait_asked(REQUESTS_IN_FLIGHT_MAX)
        client.timeout = 0.1
        with pytest.raises(CannotConnectError, match=r"had no turn within 0\.1 s"):
            await client.book("1", 1)
        await client.aclose()
        failures = await asyncio.gather(*sent, return_exceptions=True)
    assert {type(failure) for failure in failures} == {OutcomeUnknownError}
    assert len(server.asked) == REQUESTS_IN_FLIGHT_MAX


async def test_a_booking_is_sent_again_with_its_id_if_the_connection_breaks() -> None:
    answers = [BREAK, booked("b")]
    async with scripted(lambda _: answers.pop(0)) as server, AsyncClient("127.0.0.1", server.port) as client:
        assert (await client.book("1", 2)).id == "b"
    first, second = server.asked
    assert first == second
    assert first["booking"]


async def test_an_unknown_outcome_carries_the_request_that_settles_it() -> None:
    answers = [BREAK, BREAK, booked("b", replayed=True)]
    async with scripted(lambda _: answers.pop(0)) as server, AsyncClient("127.0.0.1", server.port) as client:
        with pytest.raises(OutcomeUnknownError) as unknown:
            await client.book("1", 2)
        assert (await client.call(unknown.value.request)).replayed
    assert len(server.asked) == 3
    assert all(request == server.asked[0] for request in server.asked)


async def test_the_daemon_may_not_know_the_outcome_either() -> None:
    lost = answer("error", code="outcome_unknown", message="the disk failed")
    async with scripted(lambda _: lost) as server, AsyncClient("127.0.0.1", server.port) as client:
        with pytest.raises(OutcomeUnknownError, match="the disk failed") as unknown:
            await client.book("1", 2)
    assert isinstance(unknown.value.request, Book)
    assert unknown.value.request.booking == server.asked[0]["booking"]


async def test_what_has_no_id_is_not_sent_twice() -> None:
    async with scripted(lambda _: BREAK) as server, AsyncClient("127.0.0.1", server.port) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.amend("1", capacity=5)
    assert len(server.asked) == 1


async def test_what_was_certainly_not_done_is_sent_again_without_an_id_too() -> None:
    """The first connection ends with a line that says so."""
    event = {"id": "1", "name": "E", "date": "2027-03-11T20:00:00Z", "capacity": 5, "available": 5}
    amended = answer("event", **event, held=0, sold=0, version=0)
    idle = answer("error", code="idle_timeout", message="too long idle", unasked=True)
    async with (
        scripted(lambda _: amended if server.connections > 1 else idle) as server,
        AsyncClient("127.0.0.1", server.port) as client,
    ):
        first, second = await asyncio.gather(client.amend("1", capacity=5), client.amend("1", capacity=5))
    assert (first.capacity, second.capacity) == (5, 5)


async def test_a_busy_daemon_is_asked_again_with_the_same_id() -> None:
    answers = [FULL, FULL, booked("b")]
    async with scripted(lambda _: answers.pop(0)) as server, AsyncClient("127.0.0.1", server.port) as client:
        assert (await client.book("1", 2)).id == "b"
    assert len(server.asked) == 3
    assert all(request == server.asked[0] for request in server.asked)


async def test_a_daemon_that_is_busy_for_longer_than_a_call_may_take_refuses() -> None:
    async with scripted(lambda _: LONG_FULL) as server, AsyncClient("127.0.0.1", server.port) as client:
        with pytest.raises(RefusedError) as refused:
            await client.book("1", 2)
        assert (refused.value.code, refused.value.reply.retry_after) == ("busy", 60)
        assert isinstance(await client.ask(Show("1")), ErrorReply)
    assert len(server.asked) == 2


async def test_a_reply_that_is_late_ends_the_connection_and_others_are_sent_again() -> None:
    def answered(request: dict[str, Any]) -> Answer:
        # Nothing comes over the first connection.
        return None if server.connections == 1 else done(request)

    async with scripted(answered) as server, AsyncClient("127.0.0.1", server.port, timeout=1) as client:
        late = asyncio.create_task(client.book("1", 1, booking="late"))
        await server.wait_asked(1)
        client.timeout = SECONDS_MAX
        assert (await client.book("1", 1, booking="other")).id == "other"
        with pytest.raises(OutcomeUnknownError, match=r"no reply from .* within 1 s"):
            await late
    assert [request["booking"] for request in server.asked] == ["late", "other", "other"]


async def test_the_reply_to_a_call_that_was_cancelled_must_come_in_time_too() -> None:
    async with (
        scripted(lambda request: done(request) if server.connections > 1 else None) as server,
        AsyncClient("127.0.0.1", server.port, timeout=1) as client,
    ):
        gone = asyncio.create_task(client.book("1", 1, booking="gone"))
        await server.wait_asked(1)
        gone.cancel()
        client.timeout = SECONDS_MAX
        assert (await client.book("1", 1, booking="next")).id == "next"
    assert [request["booking"] for request in server.asked] == ["gone", "next", "next"]


async def test_what_cannot_be_sent_disturbs_nobody(client: AsyncClient) -> None:
    wrong: Any = object()
    results = await asyncio.gather(
        client.book("2", 1, booking="before"),
        client.book("2", wrong),
        client.show("x" * 20_000),
        client.book("2", 1, booking="after"),
        return_exceptions=True,
    )
    assert [getattr(result, "id", type(result)) for result in results] == ["before", TypeError, RefusedError, "after"]


async def test_nobody_there_is_said_at_once() -> None:
    with nobody() as port:
        async with AsyncClient("127.0.0.1", port) as client:
            with pytest.raises(CannotConnectError) as error:
                await client.book("1", 1)
    assert str(error.value) == f"cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?"


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n", answer("pong"), b"x" * 2_000_000 + b"\n"])
async def test_what_is_not_ticketd_leaves_a_booking_unknown(nonsense: bytes) -> None:
    async with scripted(lambda _: nonsense) as server, AsyncClient("127.0.0.1", server.port) as client:
        with pytest.raises(OutcomeUnknownError, match="does not speak ticketd's protocol"):
            await client.book("1", 1)


async def test_a_line_that_nothing_asked_for_answers_nothing() -> None:
    answers = [answer("pong") + booked("other"), booked("mine")]
    async with scripted(lambda _: answers.pop(0)) as server, AsyncClient("127.0.0.1", server.port) as client:
        await client.ping()
        assert (await client.book("1", 1, booking="mine")).id == "mine"
    assert server.connections == 2


async def test_a_closed_client_answers_what_was_under_way_and_may_be_used_again() -> None:
    async with scripted(lambda request: done(request) if server.connections > 1 else None) as server:
        client = AsyncClient("127.0.0.1", server.port)
        call = asyncio.create_task(client.book("1", 1))
        await server.wait_asked(1)
        await client.aclose()
        with pytest.raises(OutcomeUnknownError, match="the client was closed"):
            await call
        await client.ping()
        await client.aclose()


async def test_a_call_that_waits_for_a_busy_daemon_ends_with_the_client() -> None:
    busy = answer("error", code="busy", message="too many are before you", retry_after=0.1)
    async with scripted(lambda request: busy if request["cmd"] == "ping" else done(request)) as server:
        client = AsyncClient("127.0.0.1", server.port, timeout=1)
        call = asyncio.create_task(client.ping())
        await server.wait_asked(1)
        # Once this one has its reply, the other one has its own.
        await client.book("1", 1)
        await client.aclose()
        with pytest.raises(CannotConnectError, match="the client was closed"):
            await call
    assert server.connections == 1


async def test_calls_that_wait_for_their_turn_end_with_the_client() -> None:
    async with scripted(lambda _: None) as server:
        client = AsyncClient("127.0.0.1", server.port, connections_max=1)
        calls = [asyncio.create_task(client.ping()) for _ in range(2 * REQUESTS_IN_FLIGHT_MAX)]
        await server.wait_asked(REQUESTS_IN_FLIGHT_MAX)
        await client.aclose()
        failures = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(failure) for failure in failures} == {"the client was closed"}
    assert server.connections == 1


def test_a_client_on_a_second_loop_says_so() -> None:
    with nobody() as port:
        client = AsyncClient("127.0.0.1", port)

        async def used() -> None:
            async with client:
                await client.ping()

        with pytest.raises(CannotConnectError):
            asyncio.run(used())
        with pytest.raises(RuntimeError, match=r"make one for each asyncio\.run\(\)"):
            asyncio.run(used())


async def test_watch_is_an_iterator_of_changes(client: AsyncClient) -> None:
    seen = []
    async for event in client.watch("2"):
        seen.append(event.available)
        if len(seen) == 3:
            break
        await client.book("2", 1)
    assert seen == [seen[0], seen[0] - 1, seen[0] - 2]
    with pytest.raises(RefusedError, match="there is no event nope"):
        _ = [event async for event in client.watch("nope")]


async def test_watch_of_a_booking_yields_its_place_and_its_tickets(client: AsyncClient) -> None:
    await client.create("Tiny", datetime(2037, 3, 11, tzinfo=UTC), 1, id="tiny")
    await client.book("tiny", 1, booking="one")
    assert (await client.wait("tiny", 1, booking="two")).position == 1
    seen = []
    async for booking in client.watch(booking="two"):
        seen.append((booking.state, booking.position))
        if booking.state == "held":
            break
        await client.cancel("one")
    assert seen == [("waiting", 1), ("held", None)]
    with pytest.raises(RefusedError, match="there is no booking nope"):
        _ = [each async for each in client.watch(booking="nope")]


async def test_watch_ends_with_the_connection() -> None:
    event = {"id": "1", "name": "E", "date": "2027-03-11T20:00:00Z", "capacity": 5, "available": 5}
    figures = {"held": 0, "sold": 0, "version": 0}

    def watched(request: dict[str, Any]) -> Answer:
        return answer("pong") if request["cmd"] == "ping" else answer("event", **event, **figures)

    async with scripted(watched) as server, AsyncClient("127.0.0.1", server.port) as client:
        changes = client.watch()
        assert (await anext(changes)).available == 5
        server.close()
        with pytest.raises(CannotConnectError, match="is lost, and no more changes come"):
            await anext(changes)


async def test_ping_answers(client: AsyncClient) -> None:
    assert await client.ask(Ping()) == await client.ping()
