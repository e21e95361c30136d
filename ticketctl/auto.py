"""``auto COMMAND... REQUESTS DELAY_MS``: repeat a command, show how far it is, and sum up what came of it."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ticketctl.client import CannotConnectError, Client, OutcomeUnknownError
from ticketctl.commands import (
    AUTO,
    CANNOT_CONNECT,
    DELAY_MS_MAX,
    DONE,
    INTERRUPTED,
    REQUESTS_MAX,
    USAGE,
    Output,
    settling,
    status_of,
    unknown,
)
from ticketctl.progress import with_bar
from ticketd import words
from ticketd.declared import shown
from ticketd.errors import TicketError
from ticketd.protocol import BookingReply, ErrorReply, Reply, Watch, error_reply


class Summary(msgspec.Struct, tag_field="reply", tag="auto"):
    """What a run came to. Times are from request to reply, in milliseconds."""

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


def run_auto(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run the command; return its exit status: that of the last request that was not done, or 0."""
    try:
        command, requests, delay_ms = _parse(arguments)
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
    run.sum_up()
    return run.status


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
        """Send the request once. False if it makes no sense to go on."""
        # Parsed anew, since every booking needs an id of its own.
        request = words.parse(self._command)
        began = time.monotonic()
        try:
            reply = self._client.ask(request)
        except CannotConnectError as error:
            self._output.failure("cannot_connect", str(error))
            self.status = CANNOT_CONNECT
            return False
        except OutcomeUnknownError as error:
            self._unknown += 1
            self.status = unknown(error, settling(request), self._client, self._output)
            return False
        self._latencies.append(time.monotonic() - began)
        if isinstance(reply, ErrorReply) and reply.code == "outcome_unknown":
            self._unknown += 1
            self.status = unknown(OutcomeUnknownError(reply.message), settling(request), self._client, self._output)
            return False
        self._count(reply)
        return True

    def _count(self, reply: Reply) -> None:
        if isinstance(reply, ErrorReply):
            self._refused[reply.code] += 1
            self.status = status_of(reply)
            return
        self._done += 1
        if isinstance(reply, BookingReply) and not reply.replayed:
            self._tickets += reply.quantity

    def sum_up(self) -> None:
        """Show the summary."""
        seconds = time.monotonic() - self._began
        sent = len(self._latencies)
        latencies = sorted(self._latencies) or [0.0]
        summary = Summary(
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
        refused = ", ".join(f"{count} {code}" for code, count in sorted(self._refused.items())) or "none"
        text = (
            f"{sent} of {self._wanted} requests in {summary.seconds:.3f} s: {self._done} done, refused: {refused},"
            f" outcome unknown: {self._unknown}, tickets: {self._tickets}; {summary.requests_per_second:g} requests/s,"
            f" p50 {summary.p50_ms:.3f} ms, p99 {summary.p99_ms:.3f} ms"
        )
        self._output.summary(summary, text)


def _parse(arguments: Sequence[str]) -> tuple[list[str], int, int]:
    if len(arguments) < 3:
        raise TicketError("bad_request", f"auto needs a command, how often, and the delay; usage: {AUTO.usage}")
    *command, requests_word, delay_word = arguments
    requests = _number("REQUESTS", requests_word, 1, REQUESTS_MAX)
    delay_ms = _number("DELAY_MS", delay_word, 0, DELAY_MS_MAX)
    try:
        request = words.parse(command)
    except TicketError as error:
        raise TicketError(error.code, f"{error.message}; it is part of: {AUTO.usage}") from None
    if isinstance(request, Watch):
        raise TicketError("bad_request", f"watch has no end, so it cannot be repeated; usage: {AUTO.usage}")
    return command, requests, delay_ms


def _paced(numbers: Iterable[int], delay_ms: int) -> Iterator[int]:
    for number in numbers:
        if number:
            time.sleep(delay_ms / 1e3)
        yield number


def _number(name: str, word: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", word) or not least <= int(word) <= most:
        message = f"{name} must be a whole number from {least} to {most}, not {shown(word)}; usage: {AUTO.usage}"
        raise TicketError("bad_request", message)
    return int(word)
