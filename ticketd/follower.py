"""Brings what other daemons have committed into the catalogue: one query for all clients, a few times a second."""

import asyncio
import logging

from ticketd.catalogue import Catalogue
from ticketd.stores.base import LedgerAwayError, SharedStore

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.1
INTERVAL_SECONDS_MAX = 1.0
# Looking takes longer the more events there are. Then it is done less often, for this share of the time.
SHARE_MAX = 0.05


async def follow(store: SharedStore, catalogue: Catalogue) -> None:
    """Publish what changes in the ledger, until cancelled. While it cannot be reached, the catalogue stays as it is."""
    loop = asyncio.get_running_loop()
    while True:
        interval = INTERVAL_SECONDS
        began = loop.time()
        try:
            catalogue.publish(await store.news())
            interval = max(interval, (loop.time() - began) / SHARE_MAX)
        except LedgerAwayError as error:
            log.debug("%s", error)
        except Exception:
            log.exception("a bug: other daemons' changes are not seen")
        await asyncio.sleep(min(interval, INTERVAL_SECONDS_MAX))
