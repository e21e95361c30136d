"""``ticketd move``: moves a whole sale from one ledger to another, while neither is served.

There are four steps, each durable before the next. If a move is interrupted, the same command finishes it:

1. A missing target is created with the mark ``arriving_from``. It cannot be served.
2. One transaction writes and verifies the whole sale in the target, with the same mark. The source can still be served;
   a move that begins again writes the target anew.
3. The source gets the mark ``moved_to``. Now neither can be served, and the target is complete.
4. The mark of the target is removed.
"""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from ticketd.ids import new_id
from ticketd.ledger.audit import AuditResult, Findings, audit
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.offline import EmbeddedOffline
from ticketd.ledger.marks import NO_MARK, Mark, move_command, refusal
from ticketd.ledger.offline import OfflineLedger, missing_module
from ticketd.ledger.postgres.url import is_database_url
from ticketd.ledger.rows import TABLES

# Called before each step, and repeatedly while rows are read or copied, with: what is done, how many rows of it, and
# how many rows in total (0 if that is not known).
Report = Callable[[str, int, int], None]


class Moved(NamedTuple):
    """How much was moved, and the names of the two ledgers."""

    events: int
    bookings: int
    tickets: int
    source: str
    target: str


async def move(source: str, target: str, report: Report) -> Moved:
    """Move the sale from one ledger to another; each is a path or the URL of a database. Raises CannotOpenError.

    If it is interrupted, the same call finishes it.
    """
    async with AsyncExitStack() as stack:
        origin = await _open(source)
        stack.push_async_callback(origin.close)
        if origin.mark.moved_to:
            destination = await _open_unfinished(origin, target)
            stack.push_async_callback(destination.close)
            async with destination.snapshot():
                moved = await _audit(destination, "counting", report)
        else:
            moved, destination = await _write(origin, target, report, stack)
        with _resumable(origin, destination):
            report("marking the source", 0, 0)
            if not origin.mark.moved_to:
                await origin.set_mark(Mark(destination.mark.move, moved_to=destination.address))
            # Before the target can be served, fold the mark into the file: a log is easily lost.
            await origin.finish()
            report("lifting the mark of the target", 0, 0)
            await destination.set_mark(NO_MARK)
            report("closing the target", 0, 0)
            await destination.finish()
    return Moved(moved.rows["events"], moved.rows["bookings"], moved.tickets, origin.name, destination.name)


async def _write(
    origin: OfflineLedger, target: str, report: Report, stack: AsyncExitStack
) -> tuple[AuditResult, OfflineLedger]:
    """Write the whole sale to the target, or leave it as it was. Returns its content, and the target."""
    if refused := refusal(origin.mark, origin.address):
        raise CannotOpenError(refused)
    async with origin.snapshot():
        audited = await _audit(origin, "reading the source", report)
        mark = Mark(new_id(), arriving_from=origin.address)
        destination = await _open(target, mark, origin.identity)
        stack.push_async_callback(destination.close)
        await _refuse_taken(destination, origin)
        report("writing the target", 0, 0)
        with _resumable(origin, destination):
            async with destination.writing(mark):
                total = sum(audited.rows.values())
                await _copy(origin, destination, total, report)
                if await _audit(destination, "verifying", report, total) != audited:
                    raise CannotOpenError(f"{destination.name} did not get what {origin.name} has; report this bug")
                report("committing", 0, 0)
    return audited, destination


@contextmanager
def _resumable(origin: OfflineLedger, destination: OfflineLedger) -> Iterator[None]:
    """Add to the message of a failure how to go on."""
    try:
        yield
    except CannotOpenError as error:
        if origin.mark == destination.mark == NO_MARK:
            raise CannotOpenError(f"{error}. Nothing was moved") from error
        command = move_command(origin.address, destination.address)
        raise CannotOpenError(f"{error}. The move was cut short; finish it: {command}") from error


async def _audit(ledger: OfflineLedger, what: str, report: Report, total: int = 0) -> AuditResult:
    findings = Findings(lambda line: None)
    report(what, 0, total)
    audited = await audit(ledger, findings, lambda done: report(what, done, total))
    if findings.first_wrong:
        raise CannotOpenError(
            f"the ledger {ledger.name} is not whole: {findings.first_wrong}; see ticketd check, and restore it from a"
            " backup"
        )
    return audited


async def _copy(origin: OfflineLedger, destination: OfflineLedger, total: int, report: Report) -> None:
    done = 0
    for table in TABLES:
        async for rows in origin.rows(table):
            await destination.add(table, rows)
            done += len(rows)
            report(f"copying {table.name}", done, total)


async def _open(ledger: str, new: Mark | None = None, unlike: object = None) -> OfflineLedger:
    if not is_database_url(ledger):
        return EmbeddedOffline(Path(ledger), new, unlike)
    try:
        from ticketd.ledger.postgres.offline import PostgresOffline
    except ModuleNotFoundError as error:
        raise missing_module(error) from None
    return await PostgresOffline.open(ledger, new, unlike)


async def _open_unfinished(origin: OfflineLedger, target: str) -> OfflineLedger:
    """Return the target of a move that was interrupted after its source was marked."""
    moved = CannotOpenError(refusal(origin.mark, origin.address))
    try:
        destination = await _open(target, unlike=origin.identity)
    except CannotOpenError as error:
        raise CannotOpenError(f"{moved}. Now: {error}") from error
    if destination.mark.move != origin.mark.move:
        await destination.close()
        raise moved
    return destination


async def _refuse_taken(destination: OfflineLedger, origin: OfflineLedger) -> None:
    """Raise CannotOpenError unless the target is empty, or was begun by an earlier try of this move."""
    mark = destination.mark
    if mark.arriving_from == origin.address:
        return
    if mark.arriving_from or mark.moved_to:
        raise CannotOpenError(f"the target is taken: {refusal(mark, destination.address)}. Or name another target")
    if not await destination.is_empty():
        raise CannotOpenError(
            f"the target {destination.name} has a sale in it; name a target that is empty or does not exist yet"
        )
