"""Bytes of any kind through all that is pure: sessions, the wire and the rules, over a ledger in memory.

What the fuzzer guided by coverage tries is here: ``converse``.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from typing import TypeVar

import msgspec
from msgspec import UNSET

from tests.faults.input import JAZZ, check_kind, check_law, check_replies
from tests.faults.sending import cut
from ticketd.commits.catalogue import Catalogue
from ticketd.config import Limits
from ticketd.model import TICKET_CHARS, Booking, Event, Redemption, milliseconds
from ticketd.rules.commands import TABLE, decide_all, read_set
from ticketd.rules.waiting import offer_budgets
from ticketd.rules.waiting_list import WaitingList
from ticketd.rules.working_set import ReadSet, WorkingSet
from ticketd.serving.session import Session
from ticketd.wire import codec
from ticketd.wire.replies import BackupReply, ErrorReply, PongReply, ReadyReply, Reply, StatsReply
from ticketd.wire.requests import Book, Create, Hold, List, Redeem, Request, Wait

T = TypeVar("T", Event, Booking)

# So small that a fuzzer tries ten thousand streams a second, lines that are too long among them.
LIMIT = 160
LINES_MAX = 4
PACKET_BYTES_MIN = 8
STORY = b"""
create Jazz 2027-03-11T20:00:00Z 20 --id 1
create Rock 2027-03-11T20:00:00Z 5 --available 0 --id 2
create Pop 2027-03-11T20:00:00Z 5 --per-buyer 2 --id 3
create Folk 2027-03-11T20:00:00Z 5 --paused --id 4
create Soul 2027-03-11T20:00:00Z 5 --opens 2027-03-11T20:00:00.001Z --id 5
delete 4
book 1 3 --booking b
redeem b.000000000001
cancel b --tickets b.000000000002
reissue b.000000000003
redeem b --scan s --event 1
annul b.000000000004 --reason left
book 1 1 --booking c --buyer x
cancel c
hold 1 2 --booking h
extend h 900
hold 1 1 --seconds 60 --booking i
confirm i
hold 1 1 --booking r
release r
wait 1 1 --booking o
wait 2 1 --booking w --buyer x
wait 2 1 --booking l
release l
book 3 2 --booking p --buyer x
"""


class Ledger:
    """Rows in memory. Loads what a batch reads and keeps what it changed, as a ledger does; time stands still.

    It is also the memory of a session.
    """

    def __init__(self) -> None:
        self._events: dict[str, Event] = {}
        self._removed: set[str] = set()
        self._bookings: dict[str, Booking] = {}
        self._redemptions: list[Redemption] = []
        self.requests = 0
        self.answered: defaultdict[type[Request], int] = defaultdict(int)
        # Two of them, for the ids of a batch are minted before it, and those of its tickets within it.
        self._asked = 0
        self._issued = 0

    def __copy__(self) -> "Ledger":
        other = Ledger()
        other._events, other._bookings = self._events.copy(), self._bookings.copy()
        other._removed, other._redemptions = self._removed.copy(), self._redemptions.copy()
        other._asked, other._issued = self._asked, self._issued
        return other

    def now(self) -> int:
        return milliseconds(JAZZ)

    def has_due_holds(self) -> bool:
        return False

    def is_settled(self, event_id: str) -> bool:
        return True

    def held(self, booking: str) -> tuple[str, int] | None:
        """Nothing is known of any booking."""
        return None

    def count_refusal(self, request: Request, refusal: ErrorReply) -> None:
        # In a batch with others it would have got an id.
        self._asked += 1

    def event(self, event_id: str) -> Event | None:
        return self._events.get(event_id)

    def list_frame(self, request: List) -> bytes:
        return Catalogue(self._events.values()).list_frame(request)

    def stats(self) -> StatsReply:
        return StatsReply("1", True, 0.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def ready(self) -> ReadyReply:
        return ReadyReply()

    def commit(self, requests: Sequence[Request]) -> list[Reply]:
        """Decide a batch, and keep what it changed."""
        for request in requests:
            self._asked += 1
            if isinstance(request, (Book, Hold, Wait)) and request.booking is UNSET:
                request.booking = f"b{self._asked}"
            elif isinstance(request, Create) and request.id is UNSET:
                request.id = f"e{self._asked}"
            elif isinstance(request, Redeem) and request.scan is UNSET:
                request.scan = f"s{self._asked}"
        working_set = self._load(read_set(requests))
        # Of other buyers, what they had before is not read.
        buyers = set(working_set.owned)
        replies = decide_all(working_set, requests)
        for request, decided in zip(requests, replies, strict=True):
            check_kind(request, decided)
        for event in working_set.changed_events.values():
            check_law(event)
        for event_id in working_set.deleted_events:
            self._events.pop(event_id, None)
        self._removed |= working_set.deleted_events
        self._events |= working_set.changed_events
        self._bookings |= working_set.changed_bookings
        self._redemptions += working_set.new_redemptions
        self._check_buyers(working_set, buyers)
        return replies

    def read(self, request: Request) -> Reply:
        """Answer what only reads."""
        read = TABLE[type(request)].read
        assert read is not None
        working_set = self._load(reads := read_set([request]))
        if reads.backup:
            working_set.backup = BackupReply(reads.backup, 1, 1, 1.0)
        reply = read(working_set, request)
        check_kind(request, reply)
        assert not working_set.changed
        return reply

    def _load(self, reads: ReadSet) -> WorkingSet:
        working_set = WorkingSet(self._new_ticket, self.now())
        working_set.bookings = _copies(self._bookings, reads.bookings | reads.new_bookings)
        if page := reads.page:
            bookings = [self._bookings[id_] for id_ in sorted(self._bookings) if id_ > page.after]
            of = [each for each in bookings if page.event in (None, each.event) and page.buyer in (None, each.buyer)]
            working_set.fill_page(page, map(copy, of))
        shown = {*reads.redemptions_of, *(booking.id for booking in working_set.page)} & working_set.bookings.keys()
        working_set.add_redemptions(
            each
            for each in self._redemptions
            if each.booking in shown or (each.booking, each.ticket) in reads.redemptions
        )
        reads.events |= {booking.event for booking in working_set.bookings.values()}
        working_set.events = _copies(self._events, reads.events)
        working_set.removed = self._removed & reads.removals
        for event_id in offer_budgets(reads, working_set.events, working_set):
            waiting = [each.id for each in self._bookings.values() if (each.event, each.state) == (event_id, "waiting")]
            working_set.bookings = _copies(self._bookings, waiting) | working_set.bookings
            working_set.waiting_lists[event_id] = WaitingList(working_set.bookings[booking] for booking in waiting)
            buyers = {each.buyer for each in working_set.bookings.values() if each.buyer is not None}
            reads.buyers[event_id] = reads.buyers.get(event_id, set()) | buyers
        for event_id, buyers in reads.limited_buyers(self._events, working_set.bookings).items():
            for buyer in buyers:
                working_set.owned[event_id, buyer] = self._owned(event_id, buyer)
        return working_set

    def _owned(self, event_id: str, buyer: str) -> int:
        return sum(each.owned() for each in self._bookings.values() if (each.event, each.buyer) == (event_id, buyer))

    def _check_buyers(self, working_set: WorkingSet, buyers: Iterable[tuple[str, str]]) -> None:
        """Check that what the rules counted is what these buyers of events have."""
        for event_id, buyer in buyers:
            owned, counted = self._owned(event_id, buyer), working_set.owned[event_id, buyer]
            assert owned == counted, f"{buyer!r} has {owned} of event {event_id}, not {counted}"

    def _new_ticket(self) -> str:
        self._issued += 1
        return f"{self._issued:0{TICKET_CHARS}x}"


def _copies(rows: dict[str, T], ids: Iterable[str]) -> dict[str, T]:
    return {row: copy(rows[row]) for row in ids if row in rows}


def conversation(ledger: Ledger, packets: Iterable[bytes]) -> list[bytes]:
    """Return the lines that a connection is answered."""
    session = Session(ledger, Limits(frame_bytes_max=LIMIT))
    output: list[bytes] = []
    for packet in packets:
        session.receive(packet)
        while (step := session.step()) not in ("input", "end"):
            match step:
                case "commit":
                    session.receive_replies(ledger.commit(session.group))
                case "read":
                    session.receive_replies([ledger.read(session.group[0])])
                case "watch":
                    # One line at least, whatever it tells. Of a booking, it was read.
                    if not session.watched:
                        session.output.append(codec.tagged(WATCHED, session.group[0].tag))
                case "share":
                    session.has_share = True
                case _:
                    raise AssertionError(f"nothing ran out: {step}")
        output.append(b"".join(session.output))
        session.output = []
        if session.final_error:
            output.append(codec.error_line(session.final_error))
            break
    return b"".join(output).split(b"\n")[:-1]


WATCHED = codec.encode(PongReply()) + b"\n"


def after_the_story() -> Ledger:
    """Return a ledger after the story."""
    ledger = Ledger()
    replies = conversation(ledger, [STORY])
    assert not any(isinstance(codec.decode_reply(reply), ErrorReply) for reply in replies)
    return ledger


BEFORE = after_the_story()


def converse(data: bytes) -> None:
    """Check that bytes are answered as is owed. The first one says how long packets are; a ping comes last."""
    stream = b"\n".join([*data[1:].split(b"\n")[:LINES_MAX], b"ping", b""])
    size = PACKET_BYTES_MIN + (data[0] if data else 0)
    answered = conversation(copy(BEFORE), [stream])
    ending = check_replies(stream, [msgspec.json.decode(reply) for reply in answered], LIMIT)
    assert not any(b"\n" in reply for reply in answered)
    assert ending or answered[-1] == codec.encode(PongReply()), f"{stream!r} ended with {answered[-1]!r}"
    packets = cut(stream, range(size, len(stream), size))
    if len(packets) > 1:
        assert conversation(copy(BEFORE), packets) == answered, f"{packets} are answered in another way"
