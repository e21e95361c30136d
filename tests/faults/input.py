"""Input: bytes of any kind. What is owed for them, and two ways to send them: through all that is pure, to a daemon.

A line gets one coded reply, the same however it is cut into packets, and the connection is in step afterwards. Only a
line that is too long, a line of HTTP and words that the end of input cuts short end the connection, with an error.
"""

import random
import re
import shlex
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from tests.daemon import Connection, Daemon, running, write_events
from ticketd import protocol, session, words
from ticketd.books import Books, LedgerRequest, Needs
from ticketd.errors import Code, TicketError
from ticketd.framing import Lines
from ticketd.model import UNSAFE, Booking, Change, Event, Ticket
from ticketd.protocol import (
    FRAME_BYTES_MAX,
    Amend,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    ErrorReply,
    EventReply,
    EventsReply,
    Help,
    Hold,
    List,
    Ping,
    PongReply,
    Redeem,
    Release,
    Reply,
    Request,
    Restore,
    Show,
    Stats,
    Tickets,
    Watch,
)
from ticketd.rules import decide_all

T = TypeVar("T", Event, Booking, Ticket)

CAPACITY = 1_000_000_000
FRAMES_OF_SIZE = 100_000
FRAMES_AT_ONCE = 50_000
MANY = 5_000
EDITS = ["flip", "put", "take", "splice"] * 4 + ["many"]
SEND_SECONDS_MAX = 60.0
JAZZ = datetime(2027, 3, 11, 20, tzinfo=UTC)

REQUESTS: list[Request] = [
    List("1", 2),
    Show("1"),
    Create("Jazz Café", JAZZ, 100, "jazz", 90),
    Book("1", 2, "bought"),
    Hold("1", 3, 86_400, "held"),
    Confirm("held"),
    Release("held"),
    Cancel("bought", ["t-1", "t-2"]),
    Redeem("t-1"),
    Amend("jazz", "Jazz Nights", JAZZ, 120),
    Watch("1"),
    Bookings("a", 2),
    Tickets("a", 2),
    Restore(
        "old", "1", 2, 90, 3, 60, JAZZ, [Change("confirm", 90, 4), Change("cancel", 91, 5, ["t-8"])], ["t-8", "t-9"]
    ),
    Stats(),
    Ping(),
    Help("book"),
]
FRAMES = [
    frame for request in REQUESTS for frame in (protocol.encode(request), shlex.join(words.unparse(request)).encode())
]


# What is owed


class Owed(NamedTuple):
    """The lines that get a reply each, and the code of the error that ends the connection, if one does."""

    lines: list[bytes]
    ending: Code | None


def owed(stream: bytes, limit: int = FRAME_BYTES_MAX) -> Owed:
    """Return what is owed to the bytes of a connection that ends after them."""
    lines: list[bytes] = []
    *complete, rest = stream.split(b"\n")
    for line in complete:
        if len(line.removesuffix(b"\r")) > limit:
            return Owed(lines, "frame_too_long")
        if re.match(rb"[ \t\r]*[A-Z]+ \S+ HTTP/[0-9]", line):
            return Owed(lines, "bad_frame")
        if line.strip(b" \t\r"):
            lines.append(line)
    if len(rest.removesuffix(b"\r")) > limit:
        return Owed(lines, "frame_too_long")
    if re.match(rb"[ \t\r]*{", rest):
        return Owed([*lines, rest], None)
    return Owed(lines, "bad_frame" if rest.strip(b" \t\r") else None)


def check_reply(reply: Reply) -> None:
    """See that a reply is one that a person can be shown."""
    if isinstance(reply, ErrorReply):
        assert reply.code != "internal", f"{reply} is a bug"
        assert reply.message, f"{reply} has no message"
        assert not UNSAFE.search(reply.message), f"{reply} could steer a terminal"


def check_replies(stream: bytes, replies: Sequence[Reply], limit: int = FRAME_BYTES_MAX) -> Code | None:
    """See that a stream got the replies it is owed, all of them good. Only a watch gets more, events all of them.

    Returns the code of the error that ended it, if one did.
    """
    for reply in replies:
        check_reply(reply)
    lines, ending = owed(stream, limit)
    least = most = len(lines) + (ending is not None)
    if any(b"watch" in line for line in lines):
        most += sum(isinstance(reply, EventReply) for reply in replies)
    assert least <= len(replies) <= most, f"{stream!r} is owed {least} replies and got {replies}"
    if ending:
        assert isinstance(replies[-1], ErrorReply), f"{stream!r} ended with {replies[-1]}"
        assert replies[-1].code == ending, f"{stream!r} ended with {replies[-1]}"
    return ending


def check_law(event: Event | protocol.EventFacts) -> None:
    """See that the capacity law holds."""
    assert event.sold + event.held + event.available == event.capacity, f"{event} does not balance"
    assert min(event.sold, event.held, event.available) >= 0, f"{event} is below 0"


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a stream into packets at these places, in order."""
    edges = [0, *places, len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


# Through all that is pure

# So small that a fuzzer tries ten thousand streams a second, lines that are too long among them.
LIMIT = 160
LINES_MAX = 4
PACKET_BYTES_MIN = 8
STORY = b"""
create Jazz 2027-03-11T20:00:00Z 20 --id 1
create Rock 2027-03-11T20:00:00Z 5 --available 0 --id 2
book 1 3 --booking b
redeem t1
cancel b --tickets t2
book 1 1 --booking c
cancel c
hold 1 2 --booking h
hold 1 1 --seconds 60 --booking i
confirm i
hold 1 1 --booking r
release r
"""


class Ledger:
    """Rows in memory. Loads what a batch needs and keeps what it changed, as a store does; time stands still."""

    def __init__(self) -> None:
        self._events: dict[str, Event] = {}
        self._bookings: dict[str, Booking] = {}
        self._tickets: dict[str, Ticket] = {}
        # Two of them, for the ids of a batch are minted before it, and those of its tickets within it.
        self._asked = 0
        self._issued = 0

    def __copy__(self) -> "Ledger":
        other = Ledger()
        other._events, other._bookings = self._events.copy(), self._bookings.copy()
        other._tickets, other._asked, other._issued = self._tickets.copy(), self._asked, self._issued
        return other

    def answer(self, requests: Iterable[Request | ErrorReply]) -> list[Reply]:
        """Answer what one packet asks; what the books are asked one after the other is one batch, but pages."""
        replies: list[Reply] = []
        party: list[LedgerRequest] = []
        for request in requests:
            if isinstance(request, (ErrorReply, List, Watch, Stats, Ping, Help, Bookings, Tickets)):
                replies += self._transact(party)
                replies.append(self._alone(request))
                party = []
            else:
                party.append(request)
        return replies + self._transact(party)

    def _alone(self, request: ErrorReply | List | Watch | Stats | Ping | Help | Bookings | Tickets) -> Reply:
        match request:
            case ErrorReply():
                return request
            case Bookings() | Tickets():
                return self._transact([request])[0]
            case Help():
                try:
                    return protocol.help_reply(request)
                except TicketError as error:
                    return protocol.error_reply(error)
            case _:
                # What else a daemon tells is not in the books.
                return PongReply()

    def _transact(self, requests: list[LedgerRequest]) -> list[Reply]:
        if not requests:
            return []
        for request in requests:
            self._asked += 1
            if isinstance(request, (Book, Hold)) and request.booking is UNSET:
                request.booking = f"b{self._asked}"
            elif isinstance(request, Create) and request.id is UNSET:
                request.id = f"e{self._asked}"
        books = self._load(Needs(requests))
        replies = decide_all(books, requests)
        for event in books.changed_events.values():
            check_law(event)
        self._events |= books.changed_events
        self._bookings |= books.changed_bookings
        self._tickets |= books.changed_tickets
        return replies

    def _load(self, needs: Needs) -> Books:
        books = Books(self._new_ticket, JAZZ)
        books.tickets = _copies(self._tickets, needs.tickets)
        needs.bookings |= {ticket.booking for ticket in books.tickets.values()}
        books.bookings = _copies(self._bookings, needs.bookings)
        needs.events |= {booking.event for booking in books.bookings.values()}
        books.events = _copies(self._events, needs.events)
        whole = [books.bookings[booking] for booking in needs.with_tickets if booking in books.bookings]
        books.tickets |= _copies(self._tickets, [ticket for booking in whole for ticket in booking.tickets])
        for page in needs.pages:
            rows: dict[str, Booking] | dict[str, Ticket] = (
                self._bookings if isinstance(page, Bookings) else self._tickets
            )
            after = "" if page.after is UNSET else page.after
            books.pages.append([copy(rows[row]) for row in sorted(rows) if row > after][: page.limit])  # type: ignore[arg-type]
        return books

    def _new_ticket(self) -> str:
        self._issued += 1
        return f"t{self._issued}"


def _copies(rows: dict[str, T], ids: Iterable[str]) -> dict[str, T]:
    return {row: copy(rows[row]) for row in ids if row in rows}


def conversation(ledger: Ledger, packets: Iterable[bytes]) -> list[bytes]:
    """Return the lines that a connection is answered."""
    lines = Lines(LIMIT)
    replies: list[bytes] = []
    for packet in packets:
        complete = lines.feed(packet)
        ending = None
        if complete:
            requests, ending = session._decode_all(complete)
            replies += map(protocol.encode, ledger.answer(requests))
        if lines.too_long and ending is None:
            ending = TicketError("frame_too_long", "this line is too long")
        if ending:
            return [*replies, protocol.encode(protocol.error_reply(ending))]
    return replies


def told() -> Ledger:
    """Return a ledger after the story."""
    ledger = Ledger()
    replies = conversation(ledger, [STORY])
    assert not any(isinstance(protocol.decode_reply(reply), ErrorReply) for reply in replies)
    return ledger


BEFORE = told()


def converse(data: bytes) -> None:
    """See that bytes are answered as is owed. The first one tells how long the packets are; a ping comes after all."""
    stream = b"\n".join([*data[1:].split(b"\n")[:LINES_MAX], b"ping", b""])
    size = PACKET_BYTES_MIN + (data[0] if data else 0)
    answered = conversation(copy(BEFORE), [stream])
    replies = [protocol.decode_reply(reply) for reply in answered]
    ending = check_replies(stream, replies, LIMIT)
    assert not any(b"\n" in reply for reply in answered)
    assert ending or replies[-1] == PongReply(), f"{stream!r} ended with {replies[-1]}"
    packets = cut(stream, range(size, len(stream), size))
    if len(packets) > 1:
        assert conversation(copy(BEFORE), packets) == answered, f"{packets} are answered in another way"


# To a daemon


def cut_anyhow(stream: bytes, chance: random.Random) -> list[bytes]:
    """Cut a stream into packets of a few bytes and of many."""
    places: list[int] = []
    place = 0
    while (place := place + chance.randint(1, chance.choice([3, 100, 10_000]))) < len(stream):
        places.append(place)
    return cut(stream, places)


@contextmanager
def sending(connection: Connection, packets: Iterable[bytes]) -> Iterator[None]:
    """Send packets one by one, while the replies are read within the block."""

    def send() -> None:
        # If the daemon closes the connection, whoever reads it will say so.
        with suppress(ConnectionError):
            for packet in packets:
                connection.send(packet)

    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join(SEND_SECONDS_MAX)


def check_frames(connection: Connection, frames: Sequence[bytes], packets_of: Callable[[bytes], list[bytes]]) -> int:
    """Send frames, a step after each that tells its position, and see that each is answered before its step.

    Returns how many replies came.
    """
    steps = [f"step-{position}" for position in range(len(frames))]
    stream = b"".join(
        b"%b\nlist --after %b\n" % (frame, step.encode()) for frame, step in zip(frames, steps, strict=True)
    )
    count = 0
    with sending(connection, packets_of(stream)):
        for frame, step in zip(frames, steps, strict=True):
            replies = list(_replies_before(connection, f"there is no event {step} to list after"))
            check_replies(frame + b"\n", replies)
            count += len(replies)
    return count


def _replies_before(connection: Connection, message: str) -> Iterator[Reply]:
    while (reply := msgspec.convert(connection.read(), Reply)) != ErrorReply("event_not_found", message):
        yield reply


def check_books(connection: Connection) -> int:
    """See that every event of a daemon balances; return how many there are."""
    reply = msgspec.convert(connection.ask("list"), EventsReply)
    for event in reply.events:
        check_law(event)
    return len(reply.events)


def check_log(daemon: Daemon) -> None:
    """See that the daemon met no bug."""
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


def parties_of(frames: Sequence[bytes], chance: random.Random) -> Iterator[Sequence[bytes]]:
    """Part frames into as few as one and as many as go into one commit."""
    start = 0
    while start < len(frames):
        end = start + chance.randint(1, 64)
        yield frames[start:end]
        start = end


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Send a daemon frames of all commands, mutated, in packets of any size.

    Every so often it is a new daemon, for the events that mutations create make every list longer.
    """
    figures: Counter[str] = Counter()
    began = time.perf_counter()
    while figures["frames"] < size * FRAMES_OF_SIZE:
        write_events(folder, CAPACITY, 10)
        frames = [mutation(chance.choice(FRAMES), chance) for _ in range(FRAMES_AT_ONCE)]
        parties = [b"\n".join(party) for party in parties_of(frames, chance)]
        with running(folder) as daemon:
            with daemon.connect() as connection:
                figures["replies"] += check_frames(connection, parties, lambda stream: cut_anyhow(stream, chance))
                figures["events"] += check_books(connection)
            assert daemon.end() == 0
            check_log(daemon)
        for file in folder.glob("events.*"):
            file.unlink()
        figures["frames"] += len(frames)
        figures["bytes"] += sum(map(len, frames))
    return {**figures, "seconds": round(time.perf_counter() - began, 1)}
