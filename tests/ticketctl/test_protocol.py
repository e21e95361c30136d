"""The protocol of a client without I/O: which reply answers which request, and what a request without one means."""

import random

import msgspec
import pytest

from tests.conftest import answer, booked
from ticketctl.failures import CannotConnectError, OutcomeUnknownError, RefusedError
from ticketctl.link import Token, Where
from ticketctl.protocol import Attempts, Conversation, NoReply
from ticketd.wire.lines import FRAME_BYTES_MAX
from ticketd.wire.replies import REPLY_BYTES_MAX, BookingReply, ErrorReply, PongReply, Reply
from ticketd.wire.requests import Amend, Book, Ping, Request, Show, Watch

HERE = Where("127.0.0.1", 8080)
TOKEN = Token("s" * 43)
WELCOME = answer("welcome", name="shop", role="seller")
PONG = answer("pong")
BUSY = ErrorReply("busy", "too many are before you", retry_after=1.5)
LOST = NoReply("it broke", sent=True, again=True)


def ids(received: list[tuple[str, Reply]]) -> list[tuple[str, str]]:
    """Return with whom each booking came."""
    return [(waiter, reply.id) for waiter, reply in received if isinstance(reply, BookingReply)]


def test_replies_go_to_their_requests_however_they_are_split(chance: random.Random) -> None:
    names = [f"b{number}" for number in range(20)]
    data = b"".join(booked(name) for name in names)
    for _ in range(50):
        conversation: Conversation[str] = Conversation(HERE)
        for name in names:
            conversation.add(Book("1", 1, name), name)
        assert conversation.take().count(b"\n") == len(names)
        cuts = sorted(chance.sample(range(len(data)), 10))
        received: list[tuple[str, Reply]] = []
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            received += conversation.receive(data[start:end])
        assert ids(received) == [(name, name) for name in names]
        assert conversation.is_reusable


def test_whatever_happens_a_reply_goes_to_its_own_request(chance: random.Random) -> None:
    for _ in range(100):
        conversation: Conversation[str] = Conversation(HERE)
        to_server, to_client = b"", b""
        sent: list[str] = []
        got: list[tuple[str, Reply]] = []
        withdrawn: set[str] = set()
        for number in range(100):
            match chance.choice(["add", "add", "take", "withdraw", "serve", "receive"]):
                case "add":
                    conversation.add(Book("1", 1, f"b{number}"), f"b{number}")
                case "take":
                    to_server += conversation.take()
                case "withdraw" if conversation.unsent:
                    withdrawn.add(chance.choice(conversation.unsent))
                    conversation.withdraw(withdrawn)
                case "serve":
                    *lines, to_server = to_server.split(b"\n")
                    sent += [msgspec.json.decode(line)["booking"] for line in lines]
                    to_client += b"".join(booked(name) for name in sent[len(sent) - len(lines) :])
                case "receive":
                    cut = chance.randint(0, len(to_client))
                    got += conversation.receive(to_client[:cut])
                    to_client = to_client[cut:]
        got += conversation.receive(to_client)
        assert ids(got) == [(name, name) for name in sent]
        assert not withdrawn & {*sent}
        in_flight = [waiter for waiter, was_sent in conversation.end() if was_sent]
        assert to_server.count(b"\n") == len(in_flight)


def test_nothing_is_sent_before_the_welcome() -> None:
    conversation: Conversation[str] = Conversation(HERE, TOKEN)
    conversation.add(Ping(), "first")
    assert conversation.take() == b'{"cmd":"auth","token":"' + b"s" * 43 + b'"}\n'
    conversation.add(Ping(), "second")
    assert conversation.take() == b""
    assert list(conversation.receive(WELCOME)) == []
    assert conversation.take() == b'{"cmd":"ping"}\n' * 2
    assert [waiter for waiter, _ in conversation.receive(PONG * 2)] == ["first", "second"]


def test_a_refused_token_answers_all_that_waits_for_it() -> None:
    conversation: Conversation[str] = Conversation(HERE, TOKEN)
    for name in ("a", "b"):
        conversation.add(Book("1", 1, name), name)
    conversation.take()
    refusal = answer("error", code="unauthorized", message="no")
    assert list(conversation.receive(refusal)) == [(name, ErrorReply("unauthorized", "no")) for name in ("a", "b")]
    assert conversation.take() == b""
    assert not conversation.is_reusable


def test_an_error_that_nobody_asked_for_answers_all_that_has_no_reply() -> None:
    conversation: Conversation[str] = Conversation(HERE)
    for name in ("a", "b", "c"):
        conversation.add(Book("1", 1, name), name)
        conversation.take()
    conversation.add(Book("1", 1, "unsent"), "unsent")
    ending = answer("error", code="shutting_down", message="it ends", unasked=True)
    received = [*conversation.receive(booked("a") + ending)]
    assert [(waiter, type(reply)) for waiter, reply in received] == [
        ("a", BookingReply),
        *((name, ErrorReply) for name in ("b", "c", "unsent")),
    ]
    assert not conversation.is_reusable


def test_an_error_before_anything_was_sent_is_not_taken_for_a_reply() -> None:
    conversation: Conversation[str] = Conversation(HERE)
    conversation.add(Book("1", 1, "a"), "a")
    full = answer("error", code="too_many_connections", message="full", retry_after=1)
    assert [waiter for waiter, _ in conversation.receive(full + booked("a"))] == ["a"]
    # It must not go out now: its reply would be taken for that of the next request.
    assert conversation.take() == b""
    assert not conversation.is_reusable


@pytest.mark.parametrize("more", [PONG, b"x"])
def test_what_nothing_asked_for_makes_a_connection_useless(more: bytes) -> None:
    conversation: Conversation[str] = Conversation(HERE)
    conversation.add(Ping(), "only")
    conversation.take()
    assert list(conversation.receive(PONG + more)) == [("only", PongReply())]
    assert not conversation.is_reusable


def test_after_a_refusal_the_next_request_begins_with_the_token_again() -> None:
    """It may be another one by then."""
    conversation: Conversation[str] = Conversation(HERE, TOKEN)
    for name in ("a", "b"):
        conversation.add(Book("1", 1, name), name)
    conversation.take()
    assert [*conversation.receive(WELCOME)] == []
    conversation.take()
    [(_, refusal)] = conversation.receive(answer("error", code="unauthorized", message="no"))
    assert isinstance(refusal, ErrorReply)
    assert conversation.is_over
    assert ids([*conversation.receive(booked("b"))]) == [("b", "b")]
    assert not conversation.is_reusable


def test_a_stream_gets_replies_until_an_error() -> None:
    conversation: Conversation[str] = Conversation(HERE)
    conversation.add(Watch(), "watch")
    conversation.take()
    assert len([*conversation.receive(PONG * 3)]) == 3
    [(_, last)] = conversation.receive(answer("error", code="shutting_down", message="it ends"))
    assert isinstance(last, ErrorReply)
    assert len(conversation) == 0


@pytest.mark.parametrize("length", [REPLY_BYTES_MAX, REPLY_BYTES_MAX + 1])
def test_a_reply_has_at_most_a_mebibyte(length: int) -> None:
    line = answer("error", code="internal", message="")[:-3] + b'"}'
    line = line.replace(b'"message":"', b'"message":"' + b"x" * (length - len(line)))
    for data in ([line + b"\n"], [line, b"\n"], [line[:9], line[9:] + b"\n"]):
        conversation: Conversation[str] = Conversation(HERE)
        conversation.add(Ping(), "ping")
        conversation.take()
        if length > REPLY_BYTES_MAX:
            with pytest.raises(NoReply, match="more than 1048576 bytes"):
                [*map(list, map(conversation.receive, data))]
        else:
            assert sum(len([*conversation.receive(part)]) for part in data) == 1


def test_a_request_that_is_too_long_is_refused_before_it_is_sent() -> None:
    conversation: Conversation[str] = Conversation(HERE)
    with pytest.raises(RefusedError, match="a line may have 16384 bytes") as refused:
        conversation.add(Show("x" * FRAME_BYTES_MAX), "long")
    assert refused.value.code == "frame_too_long"
    assert (conversation.take(), len(conversation)) == (b"", 0)


def test_the_end_tells_what_may_have_been_carried_out() -> None:
    conversation: Conversation[str] = Conversation(HERE)
    conversation.add(Ping(), "answered")
    conversation.add(Ping(), "sent")
    conversation.take()
    conversation.add(Ping(), "waiting")
    list(conversation.receive(PONG))
    assert conversation.end() == [("sent", True), ("waiting", False)]


@pytest.mark.parametrize(
    ("request_", "outcomes", "error"),
    [
        (Book("1", 1), [LOST, LOST], OutcomeUnknownError),
        (Show("1"), [LOST, LOST], CannotConnectError),
        (Amend("1", capacity=5), [LOST], OutcomeUnknownError),
        (Amend("1", capacity=5), [NoReply("it broke", again=True)] * 2, CannotConnectError),
        (Book("1", 1), [NoReply("too late", sent=True)], OutcomeUnknownError),
        (Book("1", 1), [NoReply("nobody is there")], CannotConnectError),
        # Of a try that may have been carried out, a later one that was not says nothing.
        (Book("1", 1), [LOST, BUSY], OutcomeUnknownError),
        (Book("1", 1), [LOST, ErrorReply("unauthorized", "no")], OutcomeUnknownError),
        (Book("1", 1), [LOST, NoReply("nobody is there")], OutcomeUnknownError),
        (Book("1", 1), [NoReply("", sent=True, interrupted=True)], OutcomeUnknownError),
        (Book("1", 1), [NoReply("", interrupted=True)], KeyboardInterrupt),
    ],
)
def test_what_is_known_without_a_reply(
    request_: Request, outcomes: list[Reply | NoReply], error: type[BaseException]
) -> None:
    attempts = Attempts(request_)
    *tries, last = outcomes
    assert [attempts.pause(outcome, 10) for outcome in tries] == [0.0] * len(tries)
    with pytest.raises(error) as raised:
        attempts.pause(last, 10)
    if isinstance(raised.value, OutcomeUnknownError):
        assert raised.value.request is request_
        assert raised.value.interrupted == getattr(last, "interrupted", False)


def test_a_request_gets_its_id_once() -> None:
    book = Book("1", 1)
    assert Attempts(book).request is book
    minted = book.booking
    assert isinstance(minted, str)
    Attempts(book)
    assert book.booking == minted


def test_only_a_patient_request_waits_for_a_busy_daemon() -> None:
    assert Attempts(Book("1", 1)).pause(BUSY, 10) is None
    patient = Attempts(Book("1", 1), patient=True)
    assert [patient.pause(BUSY, 10) for _ in range(5)] == [1.5] * 5
    assert patient.pause(ErrorReply("shutting_down", "it ends"), 10) == 0.5
    assert patient.pause(BUSY, 1.5) is None, "there is not enough time left"
    assert patient.pause(ErrorReply("sold_out", "none is left"), 10) is None
