"""Brings what other daemons have committed into the catalogue: one query for all clients, a few times a second."""

import asyncio
import logging

from ticketd.catalogue import Catalogue
from ticketd.stores.base import LedgerAwayError, SharedStore

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.1
INTERVAL_SECONDS_MAX = 1.0
# Failures in a row that are worth a line.
TOLD_AFTER = 5
# Looking takes longer the more events there are. Then it is done less often, for this share of the time.
SHARE_MAX = 0.05


async def follow(store: SharedStore, catalogue: Catalogue) -> None:
    """Publish what changes in the ledger, until cancelled. While it cannot be reached, the catalogue stays as it is."""
    loop = asyncio.get_running_loop()
    failed = 0
    while True:
        interval = INTERVAL_SECONDS
        began = loop.time()
        try:
            catalogue.publish(await store.news())
            interval = max(interval, (loop.time() - began) / SHARE_MAX)
            if failed >= TOLD_AFTER:
                log.info("what other daemons sell is seen again")
            failed = 0
        except Exception as error:
            failed += 1
            bug = None if isinstance(error, LedgerAwayError) else error
            if failed == TOLD_AFTER:
                log.warning("what other daemons sell is not seen: %s", error, exc_info=bug)
        await asyncio.sleep(min(interval, INTERVAL_SECONDS_MAX))
