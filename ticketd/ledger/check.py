"""``ticketd check``: verifies a ledger, and reports what it saw. Changes nothing.

An embedded ledger must not be served meanwhile. One in PostgreSQL is read as it was at one moment, while daemons sell.
"""

from collections.abc import Callable
from pathlib import Path

from ticketd.ledger.audit import Findings, Verdict, audit
from ticketd.ledger.base import CannotOpenError, LedgerDamagedError
from ticketd.ledger.embedded.examine import examining
from ticketd.ledger.marks import Mark, refusal
from ticketd.ledger.offline import LedgerReader, missing_module
from ticketd.ledger.postgres.url import is_database_url, without_password


async def check(ledger: str, say: Callable[[str], None]) -> Verdict:
    """Verify the ledger at a path or URL, ``say`` each finding as a line of text, and return whether it is whole.

    Raises CannotOpenError if the ledger cannot be read, which does not mean that it is damaged: there is none, it is a
    file that is being served, the database does not answer, or the role lacks rights.
    """
    findings = Findings(say)
    if is_database_url(ledger):
        await _check_database(ledger, findings)
    else:
        await _check_file(Path(ledger), findings)
    return findings.end()


async def _check_file(path: Path, findings: Findings) -> None:
    with examining(path, findings) as opened:
        if opened:
            reader, mark = opened
            await _check_sale(reader, mark, reader.name, findings)


async def _check_database(url: str, findings: Findings) -> None:
    try:
        from ticketd.ledger.postgres.offline import reading
    except ModuleNotFoundError as error:
        raise missing_module(error) from None
    try:
        async with reading(url) as (reader, mark):
            findings.note(f"ledger: {reader.name}, as it is at this moment")
            await _check_sale(reader, mark, without_password(url), findings)
    except LedgerDamagedError as error:
        findings.wrong("tables", str(error))
    except CannotOpenError as error:
        raise CannotOpenError(f"the ledger could not be checked: {error}") from error


async def _check_sale(ledger: LedgerReader, mark: Mark, address: str, findings: Findings) -> None:
    if moved := refusal(mark, address):
        findings.note(f"mark: {moved}")
    try:
        await audit(ledger, findings)
    except LedgerDamagedError as error:
        findings.wrong("tables", f"the rest cannot be read: {error}")
