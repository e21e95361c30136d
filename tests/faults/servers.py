"""Servers that are broken or hostile: whatever one answers, ticketctl tells the truth about what it asked for.

It says "done" only of a reply of a kind that was asked for, and "refused" only of an error. Of anything else it says
that the outcome is unknown, for a write, or that no ticketd answers. It shows no control character, and needs little
memory.
"""

import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import msgspec

from tests.conftest import ENDLESS, SECONDS_MAX, command_line, environment, lying
from tests.faults.input import JAZZ, REQUESTS, mutation
from ticketctl.client import Client
from ticketctl.commands import run as run_command
from ticketctl.output import BUSY, CANNOT_CONNECT, DONE, OUTCOME_UNKNOWN, REFUSED, Output
from ticketd.model import UNSAFE
from ticketd.wire import codec, words
from ticketd.wire.replies import (
    BackupReply,
    BookingRecord,
    BookingReply,
    BookingsReply,
    ErrorReply,
    EventFacts,
    EventReply,
    EventsReply,
    EventStats,
    HelpReply,
    PongReply,
    ReadyReply,
    Reply,
    SlowCommit,
    StatsReply,
    TicketReply,
    WelcomeReply,
)
from ticketd.wire.requests import Auth, Book, Help, List, Ping, Request

TIMEOUT_SECONDS = 20.0
EVIL = "a\u202e\x1b[2J\x9b\n$(reboot)"
# Enough for ticketctl and the longest list.
MEMORY_KB = 400_000
# Enough for ticketctl, and not for the longest list.
LITTLE_MEMORY_KB = 60_000
# From too little to begin with to enough for all but a long list.
MEMORIES_KB = range(10_000, 60_000, 250)

PONG = codec.encode(PongReply())
GONE = codec.encode(ErrorReply("event_not_found", "it is deleted"))
ASKED = [request for request in REQUESTS if not isinstance(request, Help | Auth)]


def replies_with(text: str) -> list[Reply]:
    """Return a reply of each kind but errors, with this text in all of its fields that are text."""
    event = (text, text, JAZZ, 9, 7, 0, 2, 1)
    return [
        EventsReply([EventFacts(*event)]),
        EventReply(*event),
        BookingReply(text, text, 1, "confirmed", [text], 7, 1, JAZZ, buyer=text, by=text),
        BookingsReply([BookingRecord(text, text, 1, "confirmed", [text], 7, 1, JAZZ, buyer=text, by=text)]),
        TicketReply(text, text, text, "valid"),
        StatsReply(
            text, True, 1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, [EventStats(text)], [SlowCommit(JAZZ, 0.5, 0.5, 1, 1)]
        ),
        BackupReply(text, 1, 1, 1.0),
        WelcomeReply(text, "reader"),
        PongReply(),
        ReadyReply(),
        HelpReply([]),
    ]


def check(request: Request, answer: bytes) -> int:
    """Answer a request, and see that ticketctl tells the truth about it. Return its exit status."""
    # A stream has a ping before it, and an end.
    answers = [PONG, answer + b"\n" + GONE] if request.streams else [answer]
    with lying(*(each + b"\n" for each in answers)) as liar:
        status, output = run_against(liar.port, request)
        assert liar.asked_more(), f"{request} was not sent"
    allowed = statuses(request, answer.split(b"\n")[0])
    assert status in allowed, f"{request} was answered {answer!r}: status {status}, not {allowed}\n{output}"
    for line in output.split("\n"):
        assert not UNSAFE.search(line.replace("\t", "")), f"{request} was answered {answer!r}, and wrote {line!r}"
    return status


def run_against(port: int, *requests: Request) -> tuple[int, str]:
    """Run the commands of these requests on one connection; return the exit status of the last, and what they wrote."""
    client = Client("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    with StringIO() as stream, redirect_stdout(stream), redirect_stderr(stream), closing(client):
        for request in requests:
            status = run_command(words.unparse(request), client, Output("plain"))
        return status, stream.getvalue()


def statuses(request: Request, line: bytes) -> set[int]:
    """Return the exit statuses that are true once a request was answered by this line."""
    try:
        reply = codec.decode_reply(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reply = None
    if isinstance(reply, ErrorReply):
        return {REFUSED, BUSY, CANNOT_CONNECT, OUTCOME_UNKNOWN}
    if isinstance(reply, request.expects):
        # A stream ends with an error, unless it tells of a booking that it is over.
        over = isinstance(reply, BookingReply) and reply.state not in ("waiting", "held")
        return {REFUSED if request.streams and not over else DONE}
    return {OUTCOME_UNKNOWN if request.writes else CANNOT_CONNECT}


def answers_to(request: Request, chance: random.Random) -> Iterator[bytes]:
    """Yield a reply of every kind, harmless and hostile; garbage; and good replies that are mutilated."""
    for text in ("1", EVIL):
        for reply in replies_with(text):
            yield codec.encode(reply)
    yield codec.encode(ErrorReply("not_found", EVIL))
    yield from (b"", b"null", b"[]", b"{}", b'{"reply":"error","code":"zzz","message":""}', b"[" * 100_000, b"\xff")
    for reply in replies_with("1"):
        if isinstance(reply, request.expects):
            yield mutation(codec.encode(reply), chance)


def check_unasked(request: Request) -> None:
    """Answer a ping with one line more than was asked for, and see that it is not taken for the next reply."""
    [right, *_] = [codec.encode(reply) for reply in replies_with("1") if isinstance(reply, request.expects)]
    with lying(PONG + b"\n" + right + b"\n" + right[:9], PONG + b"\n") as liar:
        status, _ = run_against(liar.port, Ping(), request)
    assert status != DONE or isinstance(request, Ping), f"{request} was answered before it was asked"


def check_endless(memory_kb: int, request: Request) -> int:
    """Run ticketctl with so much memory against a server that never ends its line, and return its exit status.

    If there was enough memory to ask, it tells the outcome as it is.
    """
    with lying(ENDLESS) as liar:
        limited = ("sh", "-c", f'ulimit -v {memory_kb}; exec "$@"', "sh")
        done = subprocess.run(
            [*limited, *command_line(tuple(words.unparse(request)), liar.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            timeout=SECONDS_MAX,
        )
        if liar.asked_more():
            right = OUTCOME_UNKNOWN if request.writes else CANNOT_CONNECT
            assert done.returncode == right, f"status {done.returncode} in {memory_kb} KB: {done.stdout}"
            assert "Traceback" not in done.stdout
    return done.returncode


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Let servers answer every command in every way, and some of them without an end, in any amount of memory."""
    figures: Counter[str] = Counter()
    for _ in range(size):
        for request in ASKED:
            for answer in answers_to(request, chance):
                figures[f"status {check(request, answer)}"] += 1
    for request in ASKED:
        # A stream has a connection of its own.
        if not request.streams:
            check_unasked(request)
    write = Book("1", 2, "bought")
    amounts = chance.sample(MEMORIES_KB, min(len(MEMORIES_KB), 4 * size))
    for memory_kb, request in [(MEMORY_KB, List()), (LITTLE_MEMORY_KB, List()), *[(some, write) for some in amounts]]:
        figures[f"without an end, status {check_endless(memory_kb, request)}"] += 1
    return dict(figures)
