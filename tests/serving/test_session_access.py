"""The conversation with somebody who may not do everything, as tables: who said what, however the bytes are split."""

from datetime import UTC, datetime

import msgspec
import pytest

from tests.secured import access, secret
from tests.serving.test_session import NOTHING, Remembered, Said, converse, echo
from ticketd.access_file import AccessList
from ticketd.config import Limits
from ticketd.serving.access import Access, Gate
from ticketd.serving.intake import STRANGER_BYTES_MAX
from ticketd.serving.session import Session
from ticketd.wire.replies import BookingReply
from ticketd.wire.roles import Role

FRAME_BYTES_MAX = 4_000


def access_list(anonymous: Role | None = None) -> AccessList:
    return msgspec.json.decode(access(anonymous=anonymous), type=AccessList)


def new_gate(anonymous: Role | None = None, *, takes_tokens: bool = True) -> Gate:
    return Gate(Access(access_list(anonymous)), "192.0.2.1", lambda: 0.0, takes_tokens=takes_tokens)


def new_session(gate: Gate | None, *, takes_words: bool = True, memory: Remembered | None = None) -> Session:
    limits = Limits(frame_bytes_max=FRAME_BYTES_MAX)
    return Session(memory or Remembered(), limits, gate, takes_words=takes_words)


def auth(name: str) -> bytes:
    return f"auth {secret(name)}\n".encode()


WRONG = auth("nobody")
LONG = b"ping".ljust(FRAME_BYTES_MAX)

# Of somebody unknown: what comes, the replies, and how it ends.
STRANGERS: list[tuple[bytes, list[str], str | None]] = [
    (auth("seller") + b"book 1 1\nlist\nping\n", ["welcome", "book 1 1", "events", "pong"], "open"),
    (b'{"cmd":"auth","token":"%b"}\r\nbook 1 1\n' % secret("seller").encode(), ["welcome", "book 1 1"], "open"),
    (
        b"\n \r\n\n" + auth("reader") + b"list\nbook 1 1\nlist\n",
        ["welcome", "events", "unauthorized", "events"],
        "open",
    ),
    # One line, which says who they are, and no other.
    (b"list\n" + auth("admin") + b"list\n", NOTHING, "unauthorized"),
    (b"book 1 1\nbook 1 1\n", NOTHING, "unauthorized"),
    (WRONG + auth("seller") + b"book 1 1\n", NOTHING, "unauthorized"),
    (b"auth x\n" + auth("seller") + b"book 1 1\n", NOTHING, "bad_request"),
    (b"nonsense\n" + auth("seller"), NOTHING, "unknown_command"),
    (b"{\n" + auth("seller"), NOTHING, "bad_frame"),
    (b"ping\n" + auth("seller") + b"book 1 1\n", ["pong"], "unauthorized"),
    (b"ready\nbook 1 1\n", ["ready"], "unauthorized"),
    # It is short; the lines after it are as long as anybody's.
    (b"x" * (STRANGER_BYTES_MAX + 2), NOTHING, "frame_too_long"),
    (auth("seller").rstrip().ljust(STRANGER_BYTES_MAX + 1) + b"\nbook 1 1\n", NOTHING, "frame_too_long"),
    (auth("seller") + LONG + b"\n" + LONG + b"\n", ["welcome", "pong", "pong"], "open"),
    (auth("seller") + LONG + b" \nping\n", ["welcome"], "frame_too_long"),
    # Other protocols.
    (b"gEt / hTtP/1.1\r\nHost: x\r\n\r\nbook 1 1\n", NOTHING, "bad_frame"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nbook 1 1\n", NOTHING, "bad_frame"),
    (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", NOTHING, "bad_frame"),
    (b"EHLO x\r\n" + auth("seller") + b"book 1 1\r\n", NOTHING, "bad_frame"),
    (b"AUTH " + auth("seller")[5:] + b"book 1 1\r\n", NOTHING, "bad_frame"),
    (b"*2\r\n$4\r\nAUTH\r\n$3\r\nabc\r\nbook 1 1\r\n", NOTHING, "bad_frame"),
]
# Of those who may read without a token.
READERS: list[tuple[bytes, list[str], str | None]] = [
    (b"list\nbook 1 1\nlist\n", ["events", "unauthorized", "events"], "open"),
    (LONG + b"\n", ["pong"], "open"),
    (b"show 1\nshow a\nshow 1\n", ["event", "unauthorized", "event"], "open"),
    (WRONG + b"list\n" + WRONG + b"list\n", ["unauthorized", "events", "unauthorized", "events"], "open"),
    (
        b"book 1 1\n" + auth("seller") + b"book 1 2\n" + auth("reader") + b"book 1 3\n",
        ["unauthorized", "welcome", "book 1 2", "welcome", "unauthorized"],
        "open",
    ),
    (
        auth("door") + b"show a\nredeem t\n" + auth("reader") + b"show a\nwatch\n" + auth("seller") + b"show a\n",
        ["welcome", "show a", "redeem t", "welcome", "unauthorized", "watch", "welcome", "show a"],
        "open",
    ),
    # A wrong token takes nothing away.
    (auth("seller") + WRONG + b"book 1 1\n", ["welcome", "unauthorized", "book 1 1"], "open"),
    # A command that is refused is a command: what follows are mistakes in typing.
    (b"book 1 1\nEHLO x\nlist\n", ["unauthorized", "unknown_command", "events"], "open"),
    (auth("seller") + b"EHLO x\nlist\n", ["welcome", "unknown_command", "events"], "open"),
    (auth("seller") + b"POST / HTTP/1.1\nbook 1 1\n", ["welcome"], "bad_frame"),
]
# Of everybody, if there is no access file.
ANYBODY: list[tuple[bytes, list[str], str | None]] = [
    (b"book 1 1\n" + WRONG + b"stats\n", ["book 1 1", "welcome", "stats"], "open"),
    (b"auth x\nping\n", ["bad_request", "pong"], "open"),
    (b"AUTH secret\r\nbook 1 1\r\n", NOTHING, "bad_frame"),
    (b"\r\n\x16\x03\x01", NOTHING, "bad_frame"),
    (b"pRi * hTTP/2.0\r\n\r\nSM\r\n\r\nbook 1 1\n", NOTHING, "bad_frame"),
]
CONVERSATIONS = [
    *(("stranger", *row) for row in STRANGERS),
    *(("reader", *row) for row in READERS),
    *(("anybody", *row) for row in ANYBODY),
]


def gate_of(who: str) -> Gate | None:
    return {"stranger": new_gate(), "reader": new_gate("reader"), "anybody": None}[who]


@pytest.mark.parametrize(("who", "data", "replies", "ending"), CONVERSATIONS, ids=lambda value: repr(value)[:30])
def test_however_it_is_split_the_same_is_allowed(who: str, data: bytes, replies: list[str], ending: str | None) -> None:
    single = [bytes([byte]) for byte in data]
    splits = [[data], single, *([data[:at], data[at:]] for at in range(1, len(data)))]
    for chunks in splits:
        said = converse(new_session(gate_of(who)), chunks)
        assert (said.replies, said.ending) == (replies, ending)


def test_each_request_is_of_whoever_had_said_so_before_it() -> None:
    gate = new_gate("manager")
    session = new_session(gate)
    session.receive(b"book 1 1\nbook 1 2\n" + auth("seller") + b"book 1 3\n" + WRONG + auth("admin") + b"book 1 4\n")
    done: list[tuple[str | None, list[str]]] = []
    while (step := session.step()) != "input":
        if step == "commit":
            done.append((gate.who.name, [echo(request).message for request in session.group]))
            session.receive_replies(list(map(echo, session.group)))
        session.has_share = True
    assert done == [(None, ["book 1 1", "book 1 2"]), ("seller", ["book 1 3"]), ("admin", ["book 1 4"])]


def test_every_line_is_counted_once_wherever_auth_stands() -> None:
    memory = Remembered()
    lines = b"ping\n" + auth("seller") + auth("reader") + b"nonsense\nbook 1 1\n" + auth("seller") + b"book 1 1\n"
    converse(new_session(new_gate("reader"), memory=memory), [lines])
    assert memory.requests == 7


def test_what_somebody_may_not_do_is_counted() -> None:
    memory = Remembered()
    lines = b"book 1 1\nshow a\nlist\n" + WRONG + auth("door") + b"cancel a\n"
    converse(new_session(new_gate("reader"), memory=memory), [lines])
    assert [code for _, code in memory.refused] == ["unauthorized"] * 4
    # As a request too, so that refusals are a part of the requests.
    counts = {kind.__struct_config__.tag: number for kind, number in memory.answered.items()}
    assert counts == {"book": 1, "show": 1, "list": 1, "auth": 2, "cancel": 1}


def test_a_token_that_others_can_read_on_its_way_is_refused() -> None:
    said = converse(new_session(new_gate("reader", takes_tokens=False)), [auth("admin") + b"stats\nlist\n"])
    assert said.replies == ["unauthorized", "unauthorized", "events"]


@pytest.mark.parametrize(("role", "by"), [("seller", None), ("door", None), ("manager", "x"), ("admin", "x")])
def test_only_managers_see_who_did_something(role: str, by: str | None) -> None:
    session = new_session(new_gate())
    session.receive(auth(role) + b"show a\n")
    while session.step() != "read":
        session.has_share = True
    session.output = []
    session.receive_replies([BookingReply("a", "1", 1, "confirmed", [], 1, 1, datetime.now(UTC), by="x")])
    assert msgspec.json.decode(b"".join(session.output)).get("by") == by


# Without words


@pytest.mark.parametrize(
    ("data", "replies", "ending"),
    [
        (b'{"cmd":"ping"}\n', ["pong"], "open"),
        (b'ping\nbook 1 1\n{"cmd":"ping"}\n', ["bad_frame", "bad_frame", "pong"], "open"),
        (b'"ping"\n["ping"]\n {"cmd":"ping"}\n', ["bad_frame", "bad_frame", "pong"], "open"),
        (b'GET / HTTP/1.1\r\n{"cmd":"book","event":"1","quantity":1}\r\n', NOTHING, "bad_frame"),
        (b'EHLO x\r\n{"cmd":"book","event":"1","quantity":1}\r\n', NOTHING, "bad_frame"),
    ],
)
def test_without_words_only_json_is_done(data: bytes, replies: list[str], ending: str | None) -> None:
    said = converse(new_session(None, takes_words=False), [data])
    assert (said.replies, said.ending) == (replies, ending)


# The access list is replaced


def answered(session: Session, gate: Gate, data: bytes, replaced: AccessList, access: Access) -> Said:
    """Replace the access list while the first commit is under way, and return what is said from then on."""
    session.receive(data)
    while session.step() != "commit":
        session.has_share = True
    access.replace(replaced, {})
    gate.refresh()
    session.output = []
    session.receive_replies(list(map(echo, session.group)))
    return converse(session, [])


def test_what_waits_when_a_token_is_removed_is_not_done() -> None:
    access = Access(access_list())
    gate = Gate(access, "192.0.2.1", lambda: 0.0)
    session = new_session(gate)
    said = answered(session, gate, auth("seller") + b"book 1 1\n" * 200, AccessList(), access)
    # What was under way is done and answered.
    assert len(said.replies) < 64
    assert set(said.replies) == {"book 1 1"}
    assert said.ending == "unauthorized"


def test_who_becomes_a_reader_can_sell_no_more() -> None:
    access = Access(access_list())
    gate = Gate(access, "192.0.2.1", lambda: 0.0)
    session = new_session(gate)
    demoted = AccessList([msgspec.structs.replace(token, role="reader") for token in access_list().tokens])
    said = answered(session, gate, auth("seller") + b"book 1 1\n" * 200 + b"list\n", demoted, access)
    assert said.replies.count("unauthorized") > 100
    assert (said.replies[-1], said.ending) == ("events", "open")
