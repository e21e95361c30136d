"""Audits a whole sale, row by row: the counts of its events must match its bookings, tickets and redemptions."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from ticketd.ledger.offline import LedgerReader, Row
from ticketd.ledger.rows import BOOKINGS, EVENTS, REDEMPTIONS, REMOVALS, TABLES, Table, booking_of, event_of
from ticketd.model import TICKET_CHARS, Booking, Event, Redemption, redeemed_at

# Only so many faults are listed; the rest is counted.
SHOWN_MAX = 100

_encode_lines = msgspec.json.Encoder().encode_lines


class Verdict(NamedTuple):
    """How many faults a ledger has, and how many acknowledged commits it ``lacks``: those are one fault."""

    wrong: int
    lacks: int


class Findings:
    """The report of a check. Each line goes to ``say`` at once. ``about`` is what is checked, such as bookings."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._wrong: Counter[str] = Counter()
        self._lacks = 0
        self.first_wrong: str | None = None

    def wrong(self, about: str, fault: str) -> None:
        """Report a fault."""
        self._wrong[about] += 1
        self.first_wrong = self.first_wrong or fault
        if self._wrong.total() <= SHOWN_MAX:
            self._say(f"wrong: {fault}")

    def lack(self, about: str, commits: int, fault: str) -> None:
        """Report that so many commits are missing, which is a fault."""
        self._lacks = commits
        self.wrong(about, fault)

    def fact(self, about: str, seen: str, good: str) -> None:
        """Report what was seen, and either ``good`` or the number of its faults."""
        self._say(f"{about}: {seen}; {f'{self._wrong[about]:,} wrong' if self._wrong[about] else good}")

    def note(self, text: str) -> None:
        """Report what is neither good nor wrong."""
        self._say(text)

    def end(self) -> Verdict:
        """Report whether the ledger is whole, and return that."""
        total = self._wrong.total()
        if total > SHOWN_MAX:
            self._say(f"wrong: {total - SHOWN_MAX:,} more")
        self._say(f"not whole: {total:,} wrong" if total else "whole")
        return Verdict(total, self._lacks)


class AuditResult(NamedTuple):
    """The content of a sale: the number of rows in each table and of tickets, and a digest of each table."""

    rows: dict[str, int]
    tickets: int
    digests: dict[str, str]


async def audit(
    ledger: LedgerReader, findings: Findings, report: Callable[[int], None] = lambda done: None
) -> AuditResult:
    """Read the whole sale once, report its faults, and return its content. Raises CannotOpenError.

    ``report`` is called for every ROWS_AT_ONCE rows, with the number of rows read so far. Memory does not grow with the
    number of bookings.
    """
    return await _Audit(ledger, findings, report).run()


class _Audit:
    def __init__(self, ledger: LedgerReader, findings: Findings, report: Callable[[int], None]) -> None:
        self._ledger = ledger
        self._findings = findings
        self._report = report
        self._rows = {table.name: 0 for table in TABLES}
        self._digests = {table.name: blake2b(digest_size=16) for table in TABLES}
        # None for an event that cannot be read.
        self._events: dict[str, Event | None] = {}
        # Tickets by event, according to the bookings.
        self._held: Counter[str] = Counter()
        self._sold: Counter[str] = Counter()
        # Bookings by event.
        self._waiting: Counter[str] = Counter()
        self._booked: Counter[str] = Counter()
        self._bookings: Counter[str] = Counter()
        self._tickets: Counter[str] = Counter()

    async def run(self) -> AuditResult:
        async for rows in self._read(EVENTS):
            for row in rows:
                self._take_event(row)
        async for _ in self._read(REMOVALS):
            pass
        redemptions = _Redemptions(self._read(REDEMPTIONS))
        async for rows in self._read(BOOKINGS):
            redeemed = await redemptions.up_to(rows[-1][0])
            for row in rows:
                self._check_booking(row, redeemed.pop(row[0], {}))
            self._report_orphans(redeemed)
        self._report_orphans(await redemptions.up_to(None))
        for event in self._events.values():
            self._check_event(event)
        fact = self._findings.fact
        fact("events", f"{len(self._events):,}", "in each, sold + held + available = capacity")
        fact("bookings", _counted(self._bookings), "each has an event, and the state that its changes led to")
        fact("tickets", _counted(self._tickets), "as many as were sold, and each that was redeemed was valid")
        digests = {name: digest.hexdigest() for name, digest in self._digests.items()}
        return AuditResult(self._rows, self._tickets.total(), digests)

    async def _read(self, table: Table) -> AsyncIterator[list[Row]]:
        async for rows in self._ledger.rows(table):
            self._rows[table.name] += len(rows)
            self._digests[table.name].update(_encode_lines(rows))
            self._report(sum(self._rows.values()))
            yield rows

    def _take_event(self, row: Row) -> None:
        id = row[1]
        try:
            self._events[id] = event_of(row[1:])
        except (msgspec.DecodeError, ValueError) as error:
            self._events[id] = None
            self._findings.wrong("events", f"event {id}: it cannot be read: {error}")

    def _check_event(self, event: Event | None) -> None:
        if event is None:
            return
        for fault in _event_faults(event, self._held[event.id], self._sold[event.id], self._waiting[event.id]):
            self._findings.wrong("events", f"event {event.id}: {fault}")
        # ``delete`` goes by these counts: it would remove such an event.
        if event.version <= event.amendments and (booked := self._booked[event.id]):
            self._findings.wrong("events", f"event {event.id}: it never sold by its version, and has {booked} bookings")

    def _check_booking(self, row: Row, histories: Mapping[str, Sequence[Redemption]]) -> None:
        where = f"booking {row[0]} of event {row[1]}"
        try:
            booking = booking_of(row)
        except (msgspec.DecodeError, ValueError) as error:
            self._findings.wrong("bookings", f"{where}: it cannot be read: {error}")
            return
        self._bookings[booking.state] += 1
        self._booked[booking.event] += 1
        if booking.event not in self._events:
            self._findings.wrong("bookings", f"{where}: there is no such event")
        state = booking.state_after(booking.changes or ())
        if state != booking.state:
            self._findings.wrong("bookings", f"{where}: it is {booking.state}, and its changes led to {state}")
        if booking.expires != (expires := _expires(booking)):
            self._findings.wrong("bookings", f"{where}: it runs out at {booking.expires}, by its changes at {expires}")
        for fault in _turn_faults(booking):
            self._findings.wrong("bookings", f"{where}: {fault}")
        if faults := _reissue_faults(booking):
            for fault in faults:
                self._findings.wrong("tickets", f"{where}: {fault}")
            return
        redeemed = {ticket for ticket, history in histories.items() if redeemed_at(history) is not None}
        for fault in (*_ticket_faults(booking, redeemed), *_history_faults(booking, histories)):
            self._findings.wrong("tickets", f"{where}: {fault}")
        tickets = set(booking.tickets)
        cancelled = booking.cancelled() & tickets
        used = (redeemed & tickets) - cancelled
        self._tickets.update(cancelled=len(cancelled), redeemed=len(used))
        self._tickets["valid"] += len(tickets) - len(cancelled) - len(used)
        self._sold[booking.event] += len(tickets) - len(cancelled)
        if booking.state == "held":
            self._held[booking.event] += booking.quantity
        elif booking.state == "waiting":
            self._waiting[booking.event] += 1

    def _report_orphans(self, redeemed: Mapping[str, Mapping[str, Sequence[Redemption]]]) -> None:
        for booking, tickets in redeemed.items():
            for ticket in sorted(tickets):
                self._findings.wrong("tickets", f"ticket {ticket} of booking {booking} was redeemed: no such booking")


class _Redemptions:
    """Reads the redemptions along with the bookings: both are in the order of booking ids."""

    def __init__(self, batches: AsyncIterator[list[Row]]) -> None:
        self._batches = batches
        # Reversed: the last one comes next.
        self._rows: list[Row] = []

    async def up_to(self, booking: str | None) -> dict[str, dict[str, list[Redemption]]]:
        """Return the next redemptions by booking and ticket, up to this booking, or all that are left if it is None."""
        found: dict[str, dict[str, list[Redemption]]] = {}
        while True:
            while self._rows and (booking is None or self._rows[-1][0] <= booking):
                redemption = Redemption(*self._rows.pop())
                found.setdefault(redemption.booking, {}).setdefault(redemption.ticket, []).append(redemption)
            if self._rows:
                return found
            rows = await anext(self._batches, None)
            if rows is None:
                return found
            self._rows = rows[::-1]


def _event_faults(event: Event, held: int, sold: int, waiting: int) -> list[str]:
    """Return sentences about what breaks the capacity law (see ``model``), or differs from the bookings."""
    faults = []
    sold_here = event.sold - event.sold_elsewhere
    if min(event.sold_elsewhere, event.held, event.available, sold_here) < 0:
        faults.append("one of its counts is below 0")
    if (total := event.sold + event.held + event.available) != event.capacity:
        faults.append(
            f"sold {event.sold} + held {event.held} + available {event.available} = {total}, not its capacity of"
            f" {event.capacity}"
        )
    if event.held != held:
        faults.append(f"{event.held} are held by its count, and {held} by its bookings")
    if sold_here != sold:
        faults.append(f"{sold_here} are sold here by its count, and {sold} by the tickets of its bookings")
    if event.waiting != waiting:
        faults.append(f"{event.waiting} wait for it by its count, and {waiting} by its bookings")
    return faults


def _expires(booking: Booking) -> int | None:
    """Return when a booking runs out, or ran out, by how it began and its changes."""
    extensions = [change.expires for change in booking.changes or () if change.what == "extend"]
    return extensions[-1] if extensions else booking.first_expires


def _turn_faults(booking: Booking) -> list[str]:
    """Return sentences about a turn in line that cannot have been."""
    faults = []
    for number, change in enumerate(booking.changes or ()):
        if change.what in ("offer", "leave") and number:
            faults.append(f"its turn in line came after it had changed: {change.what}")
        elif change.what == "offer" and change.expires != booking.first_expires:
            faults.append(f"it was offered its tickets until {change.expires}, not until {booking.first_expires}")
    return faults


def _reissue_faults(booking: Booking) -> list[str]:
    """Return sentences about reissues that cannot have been. Without them, the rest of its tickets can be checked."""
    faults = []
    tickets, earlier = set(booking.tickets), set[str]()
    for change in reversed(booking.changes or ()):
        if change.what != "reissue":
            continue
        if len(change.tickets) != 2:
            return [f"its reissue names {len(change.tickets)} tickets, not the old one and the new one"]
        old, new = change.tickets
        if new not in tickets | earlier:
            faults.append(f"ticket {old} was reissued as {new}, and it has no such ticket")
        if old in tickets | earlier:
            faults.append(f"ticket {old} was reissued, and is still there")
        earlier.add(old)
    return faults


def _ticket_faults(booking: Booking, redeemed: set[str]) -> list[str]:
    """Return sentences about what is wrong with the tickets of a booking."""
    faults = []
    expected = booking.quantity if booking.state in ("confirmed", "cancelled") else 0
    if len(booking.tickets) != expected:
        faults.append(f"it is {booking.state} and has {len(booking.tickets)} tickets, not {expected}")
    tickets = set(booking.tickets)
    if len(tickets) != len(booking.tickets):
        faults.append("it has a ticket twice")
    faults += [f"its ticket {ticket} is too short or too long" for ticket in tickets if len(ticket) != TICKET_CHARS]
    if booking.changes:
        cancelled = booking.cancelled()
        if sum(len(change.tickets) for change in booking.changes if change.what == "cancel") != len(cancelled):
            faults.append("it cancelled a ticket twice")
        faults += [f"ticket {ticket} was cancelled, and it has no such ticket" for ticket in cancelled - tickets]
        faults += [f"ticket {ticket} was redeemed and cancelled" for ticket in cancelled & redeemed]
    faults += [f"ticket {ticket} was redeemed, and it has no such ticket" for ticket in redeemed - tickets]
    return faults


def _history_faults(booking: Booking, histories: Mapping[str, Sequence[Redemption]]) -> list[str]:
    """Return sentences about redemptions that cannot have been, whatever became of the ticket later."""
    faults = []
    for ticket, history in histories.items():
        expected = [(number, ("annul", "redeem")[number % 2]) for number in range(1, len(history) + 1)]
        if [(each.number, each.what) for each in history] != expected:
            faults.append(f"ticket {ticket} was not redeemed and annulled in turns")
        if redeemed_at(history) is None and not booking.had(ticket):
            faults.append(f"a redemption of ticket {ticket} was annulled, and it has no such ticket")
    return faults


def _counted(states: Mapping[str, int]) -> str:
    """Return counts by state as text, such as ``5 (3 held, 2 confirmed)``."""
    parts = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()) if count)
    return f"{sum(states.values()):,}" + (f" ({parts})" if parts else "")
