"""``auto COMMAND... REQUESTS DELAY_MS``: repeats a command and sums up the replies."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ticketctl.client import CannotConnectError, Client, OutcomeUnknownError
from ticketctl.output import CANNOT_CONNECT, DONE, INTERRUPTED, USAGE, Output, settling, status_of, unknown
from ticketctl.own import OwnCommand, OwnField
from ticketctl.progress import with_bar
from ticketctl.times import Reader
from ticketctl.tokens import refuse_typed
from ticketd.errors import TicketError
from ticketd.wire.replies import BookingReply, ErrorReply, Reply, error_reply
from ticketd.wire.requests import Request
from ticketd.wire.schema import must_be, shown

RepeatedCommand = Annotated[
    str,
    Meta(
        title="a command with its fields, such as book 1 2",
        description="what to repeat",
        extra={"completes": "repeatable commands"},
    ),
]
Requests = Annotated[int, Meta(ge=1, le=1_000_000, description="how many times")]
DelayMs = Annotated[int, Meta(ge=0, le=3_600_000, description="milliseconds between two of them")]


class Summary(msgspec.Struct, tag_field="reply", tag="auto"):
    """What the requests did. ``p50_ms`` and ``p99_ms`` are times from a request to its reply.

    ``wanted`` requests were asked for; ``requests`` of them got a reply. ``unknown`` counts those whose outcome is
    unknown, and ``tickets`` the tickets of new bookings.
    """

    wanted: int
    requests: int
    done: int
    refused: dict[str, int]
    unknown: int
    tickets: int
    seconds: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float

    def text(self) -> str:
        """Return it for people."""
        refused = ", ".join(f"{count} {code}" for code, count in sorted(self.refused.items())) or "none"
        return (
            f"{self.requests} of {self.wanted} requests in {self.seconds:.3f} s: {self.done} done, refused: {refused},"
            f" outcome unknown: {self.unknown}, tickets: {self.tickets}; {self.requests_per_second:g} requests/s,"
            f" p50 {self.p50_ms:.3f} ms, p99 {self.p99_ms:.3f} ms"
        )


def run_auto(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run ``auto`` and return the exit status: 0, or that of the last request that was not done."""
    try:
        command, requests, delay_ms = _parse(arguments, output)
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    run = _Run(command, requests, client, output)
    try:
        for _ in _paced(with_bar(range(requests), "auto", requests), delay_ms):
            if not run.once():
                break
    except KeyboardInterrupt:
        run.status = INTERRUPTED
    summary = run.summary()
    output.summary(summary, summary.text())
    return run.status


AUTO = OwnCommand(
    "auto",
    "Repeat a command, and sum up the replies.",
    [
        OwnField("command", RepeatedCommand, usage="COMMAND..."),
        OwnField("requests", Requests),
        OwnField("delay_ms", DelayMs),
    ],
    run_auto,
)


class _Run:
    def __init__(self, command: list[str], wanted: int, client: Client, output: Output) -> None:
        self._command = command
        self._wanted = wanted
        self._client = client
        self._output = output
        self._latencies: list[float] = []
        self._done = 0
        self._refused: Counter[str] = Counter()
        self._tickets = 0
        self._unknown = 0
        self._began = time.monotonic()
        self.status = DONE

    def once(self) -> bool:
        """Send the request once. Return False if it is useless to go on."""
        # Parsed again each time, so that each booking gets an id of its own.
        request = Reader(self._output.zone).parse(self._command)
        began = time.monotonic()
        try:
            reply = self._client.ask(request)
        except CannotConnectError as error:
            self._output.failure("cannot_connect", str(error))
            self.status = CANNOT_CONNECT
            return False
        except OutcomeUnknownError as error:
            return self._stop_unknown(error, request)
        self._latencies.append(time.monotonic() - began)
        if isinstance(reply, ErrorReply) and reply.code == "outcome_unknown":
            return self._stop_unknown(OutcomeUnknownError(reply.message, request), request)
        self._count(reply)
        return True

    def _stop_unknown(self, error: OutcomeUnknownError, request: Request) -> bool:
        self._unknown += 1
        self.status = unknown(error, settling(request), self._client, self._output)
        return False

    def _count(self, reply: Reply) -> None:
        if isinstance(reply, ErrorReply):
            self._refused[reply.code] += 1
            self.status = status_of(reply)
            return
        self._done += 1
        if isinstance(reply, BookingReply) and not reply.replayed and reply.state != "waiting":
            self._tickets += reply.quantity

    def summary(self) -> Summary:
        """Return what the requests did so far."""
        seconds = time.monotonic() - self._began
        sent = len(self._latencies)
        latencies = sorted(self._latencies) or [0.0]
        return Summary(
            wanted=self._wanted,
            requests=sent,
            done=self._done,
            refused=dict(self._refused),
            unknown=self._unknown,
            tickets=self._tickets,
            seconds=round(seconds, 3),
            requests_per_second=round(sent / seconds, 1),
            p50_ms=round(latencies[len(latencies) // 2] * 1e3, 3),
            p99_ms=round(latencies[len(latencies) * 99 // 100] * 1e3, 3),
        )


def _parse(arguments: Sequence[str], output: Output) -> tuple[list[str], int, int]:
    if len(arguments) < len(AUTO.fields):
        raise AUTO.wrong("auto needs a command, how many times, and the delay")
    *command, requests_word, delay_word = arguments
    requests = _number("REQUESTS", requests_word, Requests)
    delay_ms = _number("DELAY_MS", delay_word, DelayMs)
    try:
        refuse_typed(command)
        request = Reader(output.zone).parse(command)
    except TicketError as error:
        raise TicketError(error.code, f"{error.message}; it is part of: {AUTO.usage}") from None
    if request.streams:
        raise AUTO.wrong(f"{command[0]} has no end, so it cannot be repeated")
    return command, requests, delay_ms


def _number(name: str, word: str, bounds: Any) -> int:
    # Python's int() takes more than people mean as a number, such as 1_0.
    if re.fullmatch(r"[0-9]{1,10}", word):
        with suppress(msgspec.ValidationError):
            number: int = msgspec.convert(int(word), bounds)
            return number
    raise AUTO.wrong(f"{name} must be {must_be(bounds)}, not {shown(word)}")


def _paced(numbers: Iterable[int], delay_ms: int) -> Iterator[int]:
    for number in numbers:
        if number:
            time.sleep(delay_ms / 1e3)
        yield number
