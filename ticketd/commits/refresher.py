"""Brings the commits of other daemons into the catalogue: one query for all clients, up to 10 times a second."""

import asyncio
import logging

from ticketd.commits.catalogue import Catalogue
from ticketd.commits.health import Health
from ticketd.ledger.base import CannotOpenError, LedgerUnavailableError, SharedLedger

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.1
INTERVAL_SECONDS_MAX = 1.0
# A shorter series of failures is not logged.
LOGGED_AFTER = 5
# Queries take at most this share of the time: the more events, the longer a query, and the longer the interval, up to
# INTERVAL_SECONDS_MAX.
TIME_SHARE_MAX = 0.05


async def refresh(ledger: SharedLedger, catalogue: Catalogue, health: Health) -> None:
    """Publish the changes of other daemons until cancelled. While the ledger is unreachable, nothing changes.

    What the polls show goes to ``health``: so the daemon knows whether it can sell although nobody buys. Raises
    CannotOpenError if the ledger must not be served any more.
    """
    loop = asyncio.get_running_loop()
    health.note_poll(next_at=loop.time())
    failures = 0
    while True:
        interval = INTERVAL_SECONDS
        began = loop.time()
        try:
            await _poll(ledger, catalogue)
            interval = min(max(interval, (loop.time() - began) / TIME_SHARE_MAX), INTERVAL_SECONDS_MAX)
            health.note_poll(next_at=loop.time() + interval)
            if failures >= LOGGED_AFTER:
                log.info("ready again")
            failures = 0
        except CannotOpenError:
            raise
        except Exception as error:
            failures += 1
            health.note_failed_poll(error)
            bug = None if isinstance(error, LedgerUnavailableError) else error
            if failures == LOGGED_AFTER:
                log.warning("not ready: %s", error, exc_info=bug)
        await asyncio.sleep(interval)


async def _poll(ledger: SharedLedger, catalogue: Catalogue) -> None:
    """Publish what has changed. Raises LedgerUnavailableError if that cannot be read, or if no commit is possible."""
    changes = await ledger.fetch_changes()
    if removed := catalogue.remove(changes.removed):
        log.info("events=%d were removed from the ledger", removed)
    catalogue.publish(changes.events)
    if changes.blocked:
        raise LedgerUnavailableError(changes.blocked)
