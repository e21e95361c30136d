"""Input: bytes of any kind, how they are sent to a daemon, and whether the replies are right.

They are answered as ``owed`` says, however they are cut into packets. ``pure`` sends them through all that is pure.
"""

import random
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from tests.daemon import Connection, Daemon, running, write_events
from tests.faults.other_protocols import check_other_protocols
from tests.faults.owed import owed, tag_of
from tests.faults.sending import cut_anyhow, sending
from ticketd.errors import Code
from ticketd.model import UNSAFE, Event
from ticketd.wire import codec, words
from ticketd.wire.lines import FRAME_BYTES_MAX
from ticketd.wire.replies import (
    BookingReply,
    ErrorReply,
    EventFacts,
    EventReply,
    Reply,
)
from ticketd.wire.requests import (
    Amend,
    Annul,
    Auth,
    Backup,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Help,
    Hold,
    List,
    Ping,
    Ready,
    Redeem,
    Reissue,
    Release,
    Request,
    Show,
    Stats,
    Wait,
    Watch,
)

CAPACITY = 1_000_000_000
FRAMES_PER_SIZE = 25_000
FRAMES_AT_ONCE = 50_000
OTHER_PROTOCOLS = 200
MANY = 5_000
EDITS = ["flip", "put", "take", "splice"] * 4 + ["many"]
JAZZ = datetime(2027, 3, 11, 20, tzinfo=UTC)

REQUESTS: list[Request] = [
    List("1", 2, tag="Café 🎷"),
    Show("1"),
    Show("bought", "booking"),
    Create("Jazz Café", JAZZ, 100, "jazz", 90, JAZZ - timedelta(days=500), JAZZ, True, 5),
    Book("1", 2, "bought", "order 5", tag="a-1"),
    Hold("1", 3, 86_400, "held", "order 6"),
    Wait("1", 3, 86_400, "waits", "order 7"),
    Extend("held", 86_400),
    Confirm("held", late=True),
    Release("held"),
    Cancel("bought", ["bought.0123456789ab", "bought.ba9876543210"]),
    Reissue("bought.0123456789ab"),
    Redeem("bought.0123456789ab", "1", "scan"),
    Annul("bought.0123456789ab", "1", "wrong person"),
    Amend("jazz", "Jazz Nights", JAZZ, 120, None, JAZZ, False, 6),
    Delete("jazz"),
    Watch("1", tag="w"),
    Watch(booking="held", tag="v"),
    Bookings("a", 2, "1", "order 5"),
    Stats(),
    Auth("kq2Zc9-rT_0123456789"),
    Ping(),
    Ready(),
    Help("book"),
    Backup("friday"),
]
FRAMES = [
    frame for request in REQUESTS for frame in (codec.encode(request), shlex.join(words.unparse(request)).encode())
]


def check_reply(reply: Reply) -> None:
    """Check that a reply is one that a person can be shown."""
    if isinstance(reply, ErrorReply):
        assert reply.code != "internal", f"{reply} is a bug"
        assert reply.message, f"{reply} has no message"
        assert not UNSAFE.search(reply.message), f"{reply} could steer a terminal"


def check_replies(stream: bytes, rows: Sequence[dict[str, Any]], limit: int = FRAME_BYTES_MAX) -> Code | None:
    """Check that a stream got the replies it is owed, all of them good. Only a watch gets more, events or bookings.

    Returns the code of the error that ended it, if one did.
    """
    replies = [typed(row) for row in rows]
    for reply in replies:
        check_reply(reply)
    lines, ending = owed(stream, limit)
    tags = [tag_of(line) for line in lines]
    least = most = len(lines) + (ending is not None)
    # Words may have quotes and backslashes in them.
    if any(b"watch" in line.translate(None, b"\\'\"") for line in lines):
        most += sum(isinstance(reply, EventReply | BookingReply) for reply in replies)
    assert least <= len(replies) <= most, f"{stream!r} is owed {least} replies and got {replies}"
    if len(replies) == least:
        for tag, row in zip(tags, rows, strict=False):
            unread = row.get("code") == "bad_frame" or "more digits" in row.get("message", "")
            assert row.get("tag") == (None if unread else tag), f"{stream!r} got {row}"
    assert {row.get("tag") for row in rows} <= {None, *tags}, f"{stream!r} got other tags: {rows}"
    assert not any(row.get("unasked") for row in rows), f"{stream!r} got what nobody asked for: {rows}"
    if ending:
        assert isinstance(replies[-1], ErrorReply), f"{stream!r} ended with {replies[-1]}"
        assert replies[-1].code == ending, f"{stream!r} ended with {replies[-1]}"
    return ending


def check_kind(request: Request, reply: Reply) -> None:
    """Check that a reply is of a kind that its request declares."""
    assert isinstance(reply, (ErrorReply, *request.expects)), f"{request} got {reply}"


def check_law(event: Event | EventFacts) -> None:
    """Check that the capacity law holds."""
    assert event.sold + event.held + event.available == event.capacity, f"{event} does not balance"
    assert min(event.sold, event.held, event.available, event.waiting) >= 0, f"{event} is below 0"


def check_frames(connection: Connection, frames: Sequence[bytes], packets_of: Callable[[bytes], list[bytes]]) -> int:
    """Send frames, a step after each that tells its position, and see that each is answered before its step.

    Returns how many replies came.
    """
    steps = [f"step-{position}" for position in range(len(frames))]
    stream = b"".join(
        b"%b\nlist --after %b\n" % (frame, step.encode()) for frame, step in zip(frames, steps, strict=True)
    )
    count = 0
    # What comes now comes after a command.
    pong = connection.ask("ping")
    with sending(connection, packets_of(stream)):
        for frame, step in zip(frames, steps, strict=True):
            replies = list(_replies_before(connection, f"there is no event {step} to list after"))
            check_replies(b"ping\n%b\n" % frame, [pong, *replies])
            count += len(replies)
    return count


def _replies_before(connection: Connection, message: str) -> Iterator[dict[str, Any]]:
    step = {"reply": "error", "code": "event_not_found", "message": message}
    while (reply := connection.read()) != step:
        yield reply


def typed(reply: dict[str, Any]) -> Reply:
    """Return a reply as its Struct."""
    return codec.decode_reply(msgspec.json.encode(reply))


def check_events(connection: Connection) -> int:
    """Check that every event of a daemon balances; return how many there are."""
    events = msgspec.convert(connection.events(), list[EventFacts])
    for event in events:
        check_law(event)
    return len(events)


def check_log(daemon: Daemon) -> None:
    """Check that the daemon met no bug."""
    bugs = [line for line in daemon.lines if re.search(r"^\S+ (ERROR|CRITICAL) |^Traceback", line)]
    assert not bugs, f"the daemon met a bug: {bugs}"


def mutation(frame: bytes, chance: random.Random) -> bytes:
    """Return a frame with some of its bits flipped, its bytes taken out, or others put in."""
    bytes_ = bytearray(frame)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 5])):
        start = chance.randint(0, len(bytes_))
        end = start + chance.choice([0, 1, 1, 4, 20])
        match chance.choice(EDITS):
            case "flip" if start < len(bytes_):
                bytes_[start] ^= 1 << chance.randrange(8)
            case "put":
                bytes_[start:start] = chance.randbytes(end - start)
            case "take":
                del bytes_[start:end]
            case "many" if len(bytes_) < MANY:
                # Thousands of digits or brackets are another thing than a few, and still fit into a line.
                bytes_[start:start] = bytes([chance.choice(b'9[{"\\ ')]) * MANY
            case "splice":
                bytes_[start:end] = chance.choice(FRAMES)[start:end]
    return bytes(bytes_)


def submissions_of(frames: Sequence[bytes], chance: random.Random) -> Iterator[Sequence[bytes]]:
    """Cut frames into as few as one and as many as go into one commit."""
    start = 0
    while start < len(frames):
        end = start + chance.randint(1, 64)
        yield frames[start:end]
        start = end


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Send a daemon what other protocols say, and frames of all commands, mutated, in packets of any size.

    Every so often it is a new daemon, for the events that mutations create make every list longer.
    """
    figures: Counter[str] = Counter()
    began = time.perf_counter()
    while (left := size * FRAMES_PER_SIZE - figures["frames"]) > 0:
        write_events(folder, CAPACITY, 10)
        frames = [mutation(chance.choice(FRAMES), chance) for _ in range(min(left, FRAMES_AT_ONCE))]
        submissions = [b"\n".join(submission) for submission in submissions_of(frames, chance)]
        with running(folder) as daemon:
            figures["other protocols"] += check_other_protocols(daemon, OTHER_PROTOCOLS, chance)
            with daemon.connect() as connection:
                figures["replies"] += check_frames(connection, submissions, lambda stream: cut_anyhow(stream, chance))
                figures["events"] += check_events(connection)
            assert daemon.end() == 0
            check_log(daemon)
        for file in folder.glob("events.*"):
            file.unlink()
        figures["frames"] += len(frames)
        figures["bytes"] += sum(map(len, frames))
    return {**figures, "seconds": round(time.perf_counter() - began, 1)}
