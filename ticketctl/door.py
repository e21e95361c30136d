"""``door EVENT``: lets people in. It reads one scan a line from standard input, and gives a verdict on each.

A barcode scanner types like a keyboard: the id of a ticket or of a whole booking, and Enter. Each scan has an id of its
own, and is sent with it until it is answered. So a reply that was lost turns no guest away, and lets no second one in.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from ticketctl.client import CannotConnectError, Client, OutcomeUnknownError
from ticketctl.output import (
    CANNOT_CONNECT,
    DONE,
    INTERRUPTED,
    REFUSED,
    USAGE,
    Output,
    settling,
    status_of,
    unknown,
)
from ticketctl.own import OwnCommand, OwnField
from ticketctl.protocol import AGAIN_AFTER_SECONDS, BUSY_CODES, NOT_DONE_CODES
from ticketctl.times import Zone
from ticketctl.tokens import who_am_i
from ticketd.errors import TicketError
from ticketd.model import printable
from ticketd.wire.codec import from_fields
from ticketd.wire.replies import BookingReply, ErrorReply, EventReply, Reply, TicketReply, error_reply
from ticketd.wire.requests import Redeem, Show
from ticketd.wire.requests.fields import EventId
from ticketd.wire.roles import may

# A scan is sent again after this long, even if the daemon says that it will take longer.
AGAIN_AFTER_SECONDS_MAX = 5.0
# Codes after which a scan is sent again with its id.
AGAIN_CODES = BUSY_CODES | {"idle_timeout", "outcome_unknown"}

OK = "OK"
USED = "USED"
UNKNOWN = "UNKNOWN"
WAITING = "WAITING"
# What went wrong has no verdict: its message is shown.
ERROR = "ERROR"
NOT_SOLD = "NOT SOLD"
VERDICTS = {
    "already_redeemed": USED,
    "wrong_event": "WRONG EVENT",
    "already_cancelled": "CANCELLED",
    "already_reissued": "REPLACED",
    "ticket_not_found": UNKNOWN,
    # A booking that was never paid for: it is only held, or was.
    "bad_request": NOT_SOLD,
    "already_released": NOT_SOLD,
    "hold_expired": NOT_SOLD,
}
_STYLES = {OK: "bold white on green", WAITING: "bold black on yellow"}
_REFUSED_STYLE = "bold white on red"


class Scan(msgspec.Struct, tag_field="reply", tag="scan", omit_defaults=True):
    """What came of one scan.

    ``id`` is what was scanned. ``tickets`` are those that it let in, and ``let_in`` counts all that this door has let
    in so far. ``redeemed_at`` is when a ticket had been used. ``code`` and ``message`` are those of the refusal.
    """

    id: str
    verdict: str
    let_in: int
    tickets: Sequence[str] = ()
    redeemed_at: datetime | None = None
    code: str | None = None
    message: str | None = None
    scan: str | None = None

    def headline(self, zone: Zone) -> str:
        """Return the verdict as it is shown: ``OK``, ``OK 3 TICKETS`` for a booking, or ``USED 19:42`` in a zone."""
        if self.verdict == OK and list(self.tickets) != [self.id]:
            return f"{OK} {len(self.tickets)} TICKET{'' if len(self.tickets) == 1 else 'S'}"
        if self.verdict == USED and self.redeemed_at:
            return f"{USED} {_clock(self.redeemed_at, zone)}"
        return self.verdict


def run_door(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run ``door`` and return the exit status: 0 at the end of the input, unless all verdicts were errors."""
    try:
        event = DOOR.parse(arguments)["event"]
        if output.line is not None or not sys.stdin:
            raise DOOR.wrong("standard input must have the scans, and not the commands of a script")
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    try:
        status = _open(event, client, output)
        return status or _Door(event, client, output).serve(_scanned())
    except KeyboardInterrupt:
        return INTERRUPTED


DOOR = OwnCommand(
    "door",
    "Let people in: read a ticket or a booking from each line of standard input, and give a verdict.",
    [OwnField("event", EventId)],
    run_door,
    Redeem.roles,
)


def _open(event: str, client: Client, output: Output) -> int:
    """Check that there is such an event, and that this client may let in. Return the exit status if not."""
    try:
        reply = client.ask(Show(event, "event"))
        who = None if isinstance(reply, ErrorReply) else who_am_i(client)
    except CannotConnectError as error:
        output.failure("cannot_connect", str(error))
        return CANNOT_CONNECT
    if who and not may(who.role, Redeem.roles):
        reply = ErrorReply("unauthorized", f"door needs the role door, and you are {who.role} ({who.name})")
    if isinstance(reply, ErrorReply):
        output.error(DOOR.refusal(reply))
        return status_of(reply)
    if isinstance(reply, EventReply) and output.mode == "table":
        output.note(printable(f"the door of {reply.name} is open: scan tickets, or leave with Ctrl-D"))
    return DONE


def _scanned() -> Iterator[str]:
    """Yield what is scanned, until the end of standard input. Blank lines are ignored."""
    while line := sys.stdin.readline():
        if scanned := line.strip():
            # Bytes that are no UTF-8 are shown as escapes.
            yield scanned.encode(errors="backslashreplace").decode()


class _Door:
    """The door of one event, and how many people it has let in."""

    def __init__(self, event: str, client: Client, output: Output) -> None:
        self._event = event
        self._client = client
        self._output = output
        self._let_in = 0
        self._verdicts: set[str] = set()

    def serve(self, scans: Iterator[str]) -> int:
        """Give a verdict on each scan. Return the exit status: that of a Ctrl-C, or see ``run_door``."""
        for scanned in scans:
            try:
                request = from_fields({"cmd": "redeem", "ticket": scanned, "event": self._event})
                assert isinstance(request, Redeem)
            except TicketError as error:
                # This cannot be the id of a ticket, so nobody need be asked.
                self._show(Scan(scanned, UNKNOWN, self._let_in, code="ticket_not_found", message=error.message))
                continue
            try:
                self._show(self._verdict(request, self._settled(request)))
            except OutcomeUnknownError as error:
                unknown(error, settling(request), self._client, self._output)
                return INTERRUPTED
        return REFUSED if self._verdicts == {ERROR} else DONE

    def _settled(self, request: Redeem) -> Reply:
        """Send a scan until it is answered.

        Raises KeyboardInterrupt for Ctrl-C, or OutcomeUnknownError if the scan may have been carried out by then.
        """
        said = ""
        # Whether an earlier try may have been carried out.
        lost = False
        may_be_renewed = True
        try:
            while True:
                wait = AGAIN_AFTER_SECONDS
                try:
                    reply = self._client.ask(request)
                except OutcomeUnknownError as error:
                    lost, why = True, str(error)
                    if error.interrupted:
                        raise
                except CannotConnectError as error:
                    why = str(error)
                else:
                    if may_be_renewed and isinstance(reply, ErrorReply) and reply.code == "unauthorized":
                        # Perhaps the token was replaced. It is read again for the next try.
                        may_be_renewed = False
                        continue
                    if not isinstance(reply, ErrorReply) or not _is_no_verdict(reply, lost=lost):
                        return reply
                    lost = lost or reply.code == "outcome_unknown"
                    why = reply.message
                    wait = min(reply.retry_after or wait, AGAIN_AFTER_SECONDS_MAX)
                if why != said:
                    self._wait_visibly(request.ticket, why)
                said = why
                time.sleep(wait)
        except KeyboardInterrupt:
            if lost:
                raise OutcomeUnknownError("interrupted before the reply came", request, interrupted=True) from None
            raise

    def _verdict(self, request: Redeem, reply: Reply) -> Scan:
        scan = Scan(request.ticket, ERROR, self._let_in, scan=str(request.scan))
        match reply:
            case TicketReply():
                scan.verdict, scan.tickets = OK, [reply.id]
            case BookingReply():
                scan.verdict, scan.tickets = OK if reply.admitted else USED, reply.admitted
            case ErrorReply():
                reply = self._output.explained(reply)
                scan.verdict = VERDICTS.get(reply.code, ERROR)
                scan.code, scan.message, scan.redeemed_at = reply.code, reply.message, reply.redeemed_at
        self._let_in += len(scan.tickets)
        scan.let_in = self._let_in
        return scan

    def _show(self, scan: Scan) -> None:
        self._verdicts.add(scan.verdict)
        # No pipe is taken for closed here, as elsewhere: a door whose verdicts nobody sees must end.
        if self._output.quiet and scan.verdict == OK:
            return
        headline = scan.headline(self._output.zone)
        why = [str(scan.message)] if scan.verdict == ERROR else []
        if self._output.mode == "json":
            line = printable(msgspec.json.encode(scan).decode())
        elif self._output.mode == "plain":
            line = "\t".join(map(printable, [headline, scan.id, str(scan.let_in), *why]))
        else:
            _draw(headline, _STYLES.get(scan.verdict, _REFUSED_STYLE))
            line = "   ".join(map(printable, [scan.id, f"let in: {scan.let_in}", *why]))
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def _wait_visibly(self, scanned: str, why: str) -> None:
        """Say on stderr, in every mode, that a guest has to wait, and why."""
        if self._output.mode == "table":
            _draw(WAITING, _STYLES[WAITING])
        program = f"{self._output.program}: " if self._output.program else ""
        text = f"{program}{scanned} waits, and is sent again until it is answered: {why}"
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()


def _is_no_verdict(reply: ErrorReply, *, lost: bool) -> bool:
    """Whether a scan is to be sent again. ``lost`` says that an earlier try may have been carried out."""
    # "internal" says that this try was not done, which tells nothing about an earlier one.
    return reply.code in AGAIN_CODES or (lost and reply.code in NOT_DONE_CODES)


def _draw(headline: str, style: str) -> None:
    """Draw a verdict over the whole width of the terminal, so that it is seen from afar."""
    # Imported here, because it takes longer than most commands.
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    Console().print(Padding(Text(headline), (1, 4), style=style))


def _clock(moment: datetime, zone: Zone) -> str:
    """Return a time as the clock at the door showed it, with the day if that is not today."""
    day, clock, *_ = zone.show(moment).split(" ")
    today, *_ = zone.show(datetime.now(UTC)).split(" ")
    hours_and_minutes = clock[:5]
    return hours_and_minutes if day == today else f"{day} {hours_and_minutes}"
