"""The conversation as tables, without a socket: bytes in, steps and bytes out, however the bytes are split."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from ticketd.config import Limits
from ticketd.errors import TicketError
from ticketd.model import Event
from ticketd.rules.memory import Memory
from ticketd.serving.session import Session, Step
from ticketd.serving.stream import WRITE_BYTES
from ticketd.wire.replies import BookingReply, ErrorReply, ReadyReply, StatsReply
from ticketd.wire.requests import List, Request

LINE_BYTES_MAX = 64


class Remembered:
    """A memory with two events of 5 tickets: "1", and "2", whose sale opens soon."""

    def __init__(self, *, stale: bool = False, list_bytes: int = 0, settled: bool = False) -> None:
        self.requests = 0
        self.answered: defaultdict[type[Request], int] = defaultdict(int)
        self.refused: list[tuple[str, str]] = []
        self.settled = settled
        self.stale = stale
        self._list = b'{"reply":"events","events":[]%b}' % (b" " * list_bytes)
        self._event = Event("1", "Jazz", datetime(2027, 3, 11, tzinfo=UTC), 5, 5, 0, 0, 0, 0)
        self._opening = Event("2", "Rock", datetime(2027, 3, 11, tzinfo=UTC), 5, 5, 0, 0, 0, 0, opens=1_000)
        self.time = 999

    def now(self) -> int:
        return self.time

    def has_due_holds(self) -> bool:
        return self.stale

    def event(self, event_id: str) -> Event | None:
        return {"1": self._event, "2": self._opening}.get(event_id)

    def is_settled(self, event_id: str) -> bool:
        return self.settled

    def held(self, booking: str) -> tuple[str, int] | None:
        """Nothing is known of any booking."""
        return None

    def count_refusal(self, request: Request, refusal: ErrorReply) -> None:
        self.refused.append((echo(request).message, refusal.code))

    def list_frame(self, request: List) -> bytes:
        if request.after is not UNSET and request.after != "1":
            raise TicketError("event_not_found", "there is no such event")
        return self._list

    def stats(self) -> StatsReply:
        return StatsReply("0", True, 0.0, 1, 1, 0, 1, self.requests, 0, 0, 0, 0, 0, 0)

    def ready(self) -> ReadyReply:
        return ReadyReply()


def echo(request: Request) -> ErrorReply:
    """A reply that tells to which request it is one."""
    told = msgspec.structs.replace(request, tag=UNSET)
    fields = [str(value) for value in msgspec.structs.astuple(told) if value is not UNSET and value is not False]
    return ErrorReply("internal", " ".join([str(request.__struct_config__.tag), *fields]))


@dataclass
class Said:
    """What was said: the steps with their groups, and a word for each reply in order."""

    steps: list[tuple[Step, list[str]]] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    ending: str | None = None

    def groups(self, step: Step) -> list[list[str]]:
        return [group for each, group in self.steps if each == step]


def word(line: bytes) -> str:
    """Return what a reply is: the request that it echoes, the code of an error, or its kind; its tag after ``#``."""
    reply: dict[str, Any] = msgspec.json.decode(line)
    what = reply["reply"]
    if what == "error":
        what = reply["message"] if reply["code"] == "internal" else reply["code"]
    return f"{what}#{reply['tag']}" if "tag" in reply else str(what)


def converse(
    session: Session,
    chunks: Iterable[bytes],
    *,
    end: bool = False,
    at_a_time: Callable[[int], int] = lambda asked: asked,
) -> Said:
    """Drive a session as a connection does. ``at_a_time`` says how many of a group that reads are answered at once."""
    said = Said()
    rest = [chunk for chunk in chunks if chunk]
    while True:
        step = session.step()
        for line in b"".join(session.output).splitlines():
            said.replies.append(word(line))
        session.output = []
        if step != "input":
            asked = step in ("commit", "read", "watch")
            said.steps.append((step, [echo(request).message for request in session.group] if asked else []))
        if step == "commit":
            session.receive_replies(list(map(echo, session.group)))
        elif step == "read":
            session.receive_replies(list(map(echo, session.group[: at_a_time(len(session.group))])))
        elif step == "expire":
            session.receive_replies([])
        elif step == "watch":
            said.replies.append(echo(session.group[0]).message)
        elif step == "share":
            session.has_share = True
        elif step == "end":
            said.ending = session.final_error.code if session.final_error else None
            return said
        elif rest:
            session.receive(rest.pop(0))
        elif end:
            session.receive_end()
        else:
            said.ending = "open"
            return said


def new_session(memory: Memory | None = None, **limits: int) -> Session:
    return Session(memory or Remembered(), Limits(frame_bytes_max=LINE_BYTES_MAX, **limits))


LONGEST = b"ping".ljust(LINE_BYTES_MAX)
NOTHING: list[str] = []
MISTAKES = [*["unknown_command"] * 5, "bad_frame", "unknown_command", "unknown_command"]
# What comes, whether it ends then, the replies, and how the conversation ends.
CONVERSATIONS: list[tuple[bytes, bool, list[str], str | None]] = [
    (b"", False, NOTHING, "open"),
    (b"", True, NOTHING, None),
    (b"ping\n", False, ["pong"], "open"),
    (b"ping\n", True, ["pong"], None),
    (b"ping\r\nping\n", False, ["pong", "pong"], "open"),
    (b"\n \t\n\r\nping\n\n", False, ["pong"], "open"),
    (b"ping\npi", False, ["pong"], "open"),
    (b'{"cmd":"ping"}\n', False, ["pong"], "open"),
    (b"help ping\nstats\n", False, ["help", "stats"], "open"),
    (b"list\nlist --after nope\n", False, ["events", "event_not_found"], "open"),
    (b"show 1\nshow a\n", False, ["event", "show a"], "open"),
    (b"bookings\nping\n", False, ["bookings 100", "pong"], "open"),
    (b"nonsense\n{}\n{\nping\n", False, ["unknown_command", "bad_request", "bad_frame", "pong"], "open"),
    (
        b"list\nbook 1 2\nlist\n{}\nbook 1 3\nshow a\nshow 1\nping\n",
        False,
        ["events", "book 1 2", "events", "bad_request", "book 1 3", "show a", "event", "pong"],
        "open",
    ),
    (b"book 1 1\nconfirm a\nbookings\nrelease a\n", True, ["book 1 1", "confirm a", "bookings 100", "release a"], None),
    (b"watch 1\nping\n", False, ["watch 1", "pong"], "open"),
    (b"watch --booking a\nping\n", False, ["watch a", "pong"], "open"),
    (b"watch\nwatch nope\nwatch 1\n", True, ["watch", "event_not_found", "watch 1"], None),
    # An end within a line.
    (b"ping\npi", True, ["pong"], "bad_frame"),
    (b"ping\n  \t", True, ["pong"], None),
    (b'ping\n{"cmd":"ping"}', True, ["pong", "pong"], None),
    (b'book 1 1\n{"cmd":"confirm","booking":"a"}', True, ["book 1 1", "confirm a"], None),
    (b'ping\n{"cmd":"pi', True, ["pong", "bad_frame"], None),
    # A web page.
    (b"ping\nGET / HTTP/1.1\r\nHost: x\r\n\r\nbook 1 1\n", True, ["pong"], "bad_frame"),
    (b"book 1 1\nPOST /x HTTP/1.0\nbook 1 2\n", False, ["book 1 1"], "bad_frame"),
    (b"nonsense\npatch  /x\tHttp/1.1 \nbook 1 1\n", True, ["unknown_command"], "bad_frame"),
    (b"ping\nX_1 / http/2\nbook 1 1\n", False, ["pong"], "bad_frame"),
    (b"\r\nM-SEARCH * HTTP/1.1\r\n\r\nbook 1 1\n", False, NOTHING, "bad_frame"),
    (b'ping\ncreate "a HTTP/1.1" x\n{ "a" HTTP/1.1\n', False, ["pong", "bad_request", "bad_frame"], "open"),
    (b'post /a"b" HTTP/1.1\r\n\r\nbook 1 1\n', False, NOTHING, "bad_frame"),
    (b"put /a b http/1.1\nbook 1 1\n", False, NOTHING, "bad_frame"),
    (b"ping\tHTTP/1.0\nbook 1 1\n", False, NOTHING, "bad_frame"),
    (b'{"cmd":"lists"} HTTP/2\nbook 1 1\n', False, NOTHING, "bad_frame"),
    (b'create "HTTP/2 for all" x\nping\n', False, ["bad_request", "pong"], "open"),
    (b'create "On HTTP/2" 2027-03-11T20:00:00Z 5\n', False, ["create On HTTP/2 2027-03-11 20:00:00+00:00 5"], "open"),
    # Other protocols, before a command: TLS with a newline in its session id, SMTP, SSH, Redis.
    (b"\x16\x03\x01\x02\0\x01\xfc\x03\x03\nbook 1 1\n", False, NOTHING, "bad_frame"),
    (b'{"cmd":"book"}\n{"\0\n{"cmd":"book","event":"1","quantity":1}\n', True, ["bad_request"], "bad_frame"),
    (b'{"\0"}', True, NOTHING, "bad_frame"),
    (b"EHLO x\r\nbook 1 1\r\n", False, NOTHING, "bad_frame"),
    (b"SSH-2.0-OpenSSH_9.9\r\nbook 1 1\n", False, NOTHING, "bad_frame"),
    (b"*1\r\n$4\r\nPING\r\nbook 1 1\r\n", False, NOTHING, "bad_frame"),
    # The same after a command, and mistakes in typing.
    (b"ping\n\x1b[A\nEHLO x\n*1\nping\n", False, ["pong", *["unknown_command"] * 3, "pong"], "open"),
    (b"lsit\nLIST\nBook 1 1\n?\n[]\n\xff\nhelp\tlsit\n\0\n", False, MISTAKES, "open"),
    # Lines as long as they may be, and longer.
    (LONGEST + b"\n" + LONGEST + b"\r\nping\n", False, ["pong", "pong", "pong"], "open"),
    (b"ping\n" + LONGEST + b" \nping\n", False, ["pong"], "frame_too_long"),
    (b"book 1 1\n" + b"x" * (LINE_BYTES_MAX + 2), False, ["book 1 1"], "frame_too_long"),
]


@pytest.mark.parametrize(("data", "end", "replies", "ending"), CONVERSATIONS, ids=lambda value: repr(value)[:30])
def test_however_bytes_are_split_the_replies_are_the_same(
    data: bytes, end: bool, replies: list[str], ending: str | None
) -> None:
    whole = converse(new_session(), [data], end=end)
    assert (whole.replies, whole.ending) == (replies, ending)
    single = [bytes([byte]) for byte in data]
    splits = [single, *([data[:at], data[at:]] for at in range(1, len(data)))]
    for chunks in splits:
        said = converse(new_session(), chunks, end=end)
        assert (said.replies, said.ending) == (replies, ending)


def test_it_says_that_a_line_is_pending_until_it_ends() -> None:
    session = new_session()
    pending = []
    for data in (b"", b"p", b"ing", b"\n", b"ping\npi", b"ng\n", b" ", b"\n"):
        session.receive(data)
        converse(session, [])
        pending.append(session.lines.pending)
    assert pending == [False, True, True, False, True, False, True, False]


# Groups


def books(*quantities: int) -> bytes:
    return b"".join(b"book 1 %d\n" % quantity for quantity in quantities)


def test_no_more_requests_than_may_be_in_flight_form_a_group() -> None:
    said = converse(new_session(frames_in_flight_max=4), [books(*range(1, 11))])
    assert said.replies == [f"book 1 {quantity}" for quantity in range(1, 11)]
    assert [len(group) for group in said.groups("commit")] == [4, 4, 2]
    # Others come first in between.
    assert [step for step, _ in said.steps] == ["commit", "share", "commit", "share", "commit"]


@pytest.mark.parametrize(
    ("quantities", "groups"),
    [
        ([4, 4, 4, 1, 20], [[4, 4], [4, 1], [20]]),
        ([10, 1], [[10], [1]]),
        ([5, 5, 1], [[5, 5], [1]]),
        ([20, 20], [[20], [20]]),
        ([1] * 11, [[1] * 10, [1]]),
    ],
)
def test_no_more_rows_than_a_commit_takes_form_a_group(quantities: list[int], groups: list[list[int]]) -> None:
    session = new_session(rows_per_event_max=10)
    session.receive(books(*quantities))
    for group in groups:
        assert session.step() == "commit"
        assert [getattr(request, "quantity", None) for request in session.group] == group
        assert session.rows == sum(group)
        session.receive_replies(list(map(echo, session.group)))
    assert session.step() == "input"


def test_requests_that_list_many_tickets_form_small_groups() -> None:
    # Replies of a thousand tickets each would wait for a client that does not read. For the commit they cost less.
    session = new_session()
    session.receive(b"cancel a\n" * 8 + b"confirm b\n" * 16)
    groups = []
    while session.step() == "commit":
        groups.append((len(session.group), session.rows))
        session.receive_replies(list(map(echo, session.group)))
    assert groups == [(4, 256), (4, 256), (8, 128), (8, 128)]


@pytest.mark.parametrize(
    ("data", "steps"),
    [
        (b"book 1 1\nshow a\nbook 1 2\n", [("commit", 1), ("read", 1), ("commit", 1)]),
        (b"book 1 1\nping\nbook 1 2\n", [("commit", 1), ("commit", 1)]),
        (b"book 1 1\nnonsense\nbook 1 2\n", [("commit", 1), ("commit", 1)]),
        (b"book 1 1\nhold 1 1\ncancel b\nredeem t\n", [("commit", 4)]),
        (b"show a\nshow 1\nshow b\n", [("read", 1), ("read", 1)]),
        (b"show a\nbookings\nshow b\n", [("read", 3)]),
        (b"show a\nnonsense\nshow b\n", [("read", 1), ("read", 1)]),
        (b"show a\nwatch 1\nshow b\n", [("read", 1), ("watch", 1), ("read", 1)]),
        (b"show a\nping\nlist\nshow b\n", [("read", 1), ("read", 1)]),
        (b"ping\nlist\nstats\nshow 1\nhelp\n", []),
    ],
)
def test_groups_are_of_one_kind_and_in_the_order_sent(data: bytes, steps: list[tuple[Step, int]]) -> None:
    said = converse(new_session(), [data])
    assert [(step, len(group)) for step, group in said.steps] == steps


def test_what_a_slice_left_out_is_asked_again() -> None:
    said = converse(new_session(), [b"show a\nshow b\nshow c\nping\n"], at_a_time=lambda asked: 1)
    assert said.groups("read") == [["show a", "show b", "show c"], ["show b", "show c"], ["show c"]]
    assert said.replies == ["show a", "show b", "show c", "pong"]


def shown(id: str) -> BookingReply:
    return BookingReply(id, "1", 2, "waiting", [], 0, 7, datetime(2027, 1, 1, tzinfo=UTC), position=3)


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_a_booking_is_watched_once_it_was_read(at_a_time: int) -> None:
    session = new_session()
    session.receive(b"show a\nwatch --booking b\nshow c\nwatch --booking d\n")
    steps: list[tuple[Step, list[str]]] = []
    while (step := session.step()) != "input":
        asked = [str(getattr(request, "booking", None) or request.id) for request in session.group]  # type: ignore[attr-defined]
        steps.append((step, asked))
        if step == "read":
            session.receive_replies([shown(id) for id in asked[:at_a_time]])
        else:
            assert session.watched and [session.watched.id] == asked
    # The line after a watch ends it, so it is not read before the watch has begun.
    first, then = ("read", ["a", "b"]), ("read", ["c", "d"])
    again = [[("read", ["b"])], [("read", ["d"])]] if at_a_time == 1 else [[], []]
    assert steps == [first, *again[0], ("watch", ["b"]), then, *again[1], ("watch", ["d"])]
    assert [word(line) for line in b"".join(session.output).splitlines()] == ["booking"] * 4


def test_a_refused_watch_of_a_booking_begins_nothing() -> None:
    session = new_session()
    session.receive(b"watch --booking b\nping\n")
    assert session.step() == "read"
    session.receive_replies([ErrorReply("booking_not_found", "none")])
    assert session.step() == "input"
    assert [word(line) for line in b"".join(session.output).splitlines()] == ["booking_not_found", "pong"]


def test_answers_leave_before_the_next_group_is_asked() -> None:
    session = new_session()
    session.receive(b"ping\nbook 1 1\nping\nshow a\nping\n")
    sent: list[list[str]] = []
    while (step := session.step()) != "input":
        sent.append([word(line) for line in b"".join(session.output).splitlines()])
        session.output = []
        assert step in ("commit", "read")
        session.receive_replies(list(map(echo, session.group)))
    sent.append([word(line) for line in b"".join(session.output).splitlines()])
    assert sent == [["pong"], ["book 1 1", "pong"], ["show a", "pong"]]


# Holds that have run out


@pytest.mark.parametrize(
    "line", [b"list", b"list --limit 1", b"show 1", b"show a", b"bookings", b"watch", b"watch 1", b"watch --booking a"]
)
def test_holds_end_before_what_shows_events_once_per_request(line: bytes) -> None:
    # They do not end, as when the disk is full: it is answered all the same.
    said = converse(new_session(Remembered(stale=True)), [line + b"\n" + line + b"\n"], at_a_time=lambda asked: 1)
    assert len(said.replies) == 2
    assert len(said.groups("expire")) == 2
    assert said.steps[0][0] == "expire"


@pytest.mark.parametrize("line", [b"ping", b"help", b"stats", b"nonsense", b"book 1 1", b"confirm a", b"redeem t"])
def test_what_shows_no_events_does_not_wait_for_holds(line: bytes) -> None:
    said = converse(new_session(Remembered(stale=True)), [line + b"\n"])
    assert len(said.replies) == 1
    assert not said.groups("expire")


def test_memory_refuses_what_cannot_be_had_and_nothing_else() -> None:
    data = b"book 1 6\nhold 1 6\nbook nope 1\nbook 1 6 --booking b\nbook 1 5\nbook 1 6\n"
    memory = Remembered(settled=True)
    said = converse(new_session(memory), [data])
    assert said.replies[:3] == ["sold_out", "sold_out", "event_not_found"]
    # Whether a given id is known, only the ledger can tell. What is sent after a booking is decided after it.
    assert said.groups("commit") == [["book 1 6 b", "book 1 5", "book 1 6"]]
    # Each is counted, by its event and its code.
    assert memory.refused == [
        ("book 1 6", "sold_out"),
        ("hold 1 6 300", "sold_out"),
        ("book nope 1", "event_not_found"),
    ]
    # While anything waits that could change the event, it is decided in its turn.
    said = converse(new_session(Remembered(settled=False)), [data])
    assert [len(group) for group in said.groups("commit")] == [6]


def test_whole_bookings_are_redeemed_in_small_groups() -> None:
    # Each writes a row for each of its tickets.
    session = new_session()
    session.receive(b"redeem b\n" * 12)
    groups = []
    while session.step() == "commit":
        groups.append((len(session.group), session.rows))
        session.receive_replies(list(map(echo, session.group)))
    assert groups == [(2, 1024)] * 6


def test_before_a_sale_opens_memory_refuses_everybody() -> None:
    memory = Remembered(settled=True)
    session = new_session(memory)
    said = converse(session, [b"book 2 1\n" * 100])
    assert said.replies == ["not_on_sale"] * 100
    assert not said.groups("commit")
    # From the very millisecond on, a commit decides.
    memory.time = 1_000
    assert converse(session, [b"book 2 1\n"]).groups("commit") == [["book 2 1"]]


def test_holds_end_before_memory_refuses() -> None:
    memory = Remembered(stale=True, settled=True)
    session = new_session(memory)
    session.receive(b"book 1 6\nlist\n")
    assert session.step() == "expire"
    # Something waits now that may change the event.
    memory.settled = False
    session.receive_replies([])
    assert session.step() == "commit"
    session.receive_replies([echo(session.group[0])])
    # The list has not waited for holds yet.
    assert session.step() == "expire"
    session.receive_replies([])
    assert session.step() == "input"


def test_when_the_holds_have_ended_nobody_asks_again() -> None:
    memory = Remembered(stale=True)
    session = new_session(memory)
    session.receive(b"list\nshow 1\nshow a\n")
    assert session.step() == "expire"
    assert not session.output
    memory.stale = False
    session.receive_replies([])
    said = converse(session, [])
    assert said.replies == ["events", "event", "show a"]
    assert [step for step, _ in said.steps] == ["read"]


# The share


def test_long_answers_wait_for_a_share_after_each_bound() -> None:
    session = new_session(Remembered(list_bytes=WRITE_BYTES * 2 // 3))
    session.receive(b"list\n" * 5)
    sizes = []
    while True:
        step = session.step()
        sizes.append(sum(map(len, session.output)))
        session.output = []
        if step == "input":
            break
        assert step == "share"
    assert len(sizes) == 3
    assert max(sizes) < 2 * WRITE_BYTES


def test_without_its_share_a_long_pipeline_is_not_decoded() -> None:
    memory = Remembered()
    session = new_session(memory, frames_in_flight_max=4)
    session.receive(b"ping\n" * 10)
    for decoded in (4, 8):
        for _ in range(2):
            assert session.step() == "share"
            assert memory.requests == decoded
        session.has_share = True
    assert session.step() == "input"
    assert memory.requests == 10


# In any mix

LINES: list[tuple[bytes, str]] = [
    (b"ping", "pong"),
    (b'{"cmd":"ping"}', "pong"),
    (b"list", "events"),
    (b"show 1", "event"),
    (b"show a", "show a"),
    (b"show b", "show b"),
    (b"bookings --limit 7", "bookings 7"),
    (b"book 1 1", "book 1 1"),
    (b"book 1 2", "book 1 2"),
    (b"book 2 9", "book 2 9"),
    (b"confirm a", "confirm a"),
    (b"redeem t", "redeem t"),
    (b"watch", "watch"),
    (b"watch nope", "event_not_found"),
    (b"watch --booking a", "watch a"),
    (b"nonsense", "unknown_command"),
    (b"{", "bad_frame"),
    (b"{}", "bad_request"),
    (b'{"cmd":"ping","tag":"t"}', "pong#t"),
    (b'{"cmd":"list","tag":"u"}', "events#u"),
    (b'{"cmd":"show","id":"a","tag":"v"}', "show a#v"),
    (b'{"cmd":"confirm","booking":"c","tag":"w"}', "confirm c#w"),
    (b'{"cmd":"watch","event":"nope","tag":"x"}', "event_not_found#x"),
    (b'{"tag":"y"}', "bad_request#y"),
]


@given(st.data())
def test_there_is_one_reply_per_request_in_order(data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.sampled_from(LINES), max_size=30))
    ends = st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n \r\n"])
    sent = b"".join(line + data.draw(ends) for line, _ in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=10)))
    chunks = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    memory = Remembered(stale=data.draw(st.booleans()), list_bytes=data.draw(st.sampled_from([0, WRITE_BYTES])))
    session = new_session(
        memory,
        frames_in_flight_max=data.draw(st.integers(1, 8)),
        rows_per_event_max=data.draw(st.integers(1, 8)),
    )
    end = data.draw(st.booleans())
    said = converse(session, chunks, end=end, at_a_time=lambda asked: data.draw(st.integers(1, asked)))
    assert said.replies == [reply for _, reply in lines]
    assert said.ending == (None if end else "open")
    assert memory.requests == len(lines)
    committed = [request for group in said.groups("commit") for request in group]
    decided = [reply for _, reply in lines if reply.split()[0] in ("book", "confirm", "redeem")]
    assert committed == [reply.partition("#")[0] for reply in decided]
