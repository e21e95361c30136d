"""Keeps events.json and the ledger's catalogue in step, in both directions."""

import asyncio
import logging
from collections.abc import Iterable

from ticketd.box_office import BoxOffice
from ticketd.catalogue import Catalogue
from ticketd.events_file import EventsFile, EventsFileError
from ticketd.model import Event
from ticketd.protocol import ErrorReply
from ticketd.rules import Adopt

log = logging.getLogger(__name__)

# How often the file is looked at, and brought up to date if need be.
INTERVAL_SECONDS = 1.0


class Keeper:
    """Adopts events that people wrote into the file, and writes the file when the catalogue has changed."""

    def __init__(self, file: EventsFile, catalogue: Catalogue, box_office: BoxOffice) -> None:
        self._file = file
        self._catalogue = catalogue
        self._box_office = box_office
        self._revision = -1
        self._ending = asyncio.Event()
        # A fault that lasts is told once, not every second.
        self._told: str | None = None

    async def adopt(self, events: Iterable[Event]) -> None:
        """Put those events into the ledger that it does not know. For those that it knows, the ledger is right.

        Raises EventsFileError if the ledger cannot take them.
        """
        unknown = [Adopt(event) for event in events if self._catalogue.get(event.id) is None]
        if unknown:
            for reply in await self._box_office.submit(unknown, str(self._file.path)):
                if isinstance(reply, ErrorReply):
                    raise EventsFileError(f"cannot take in the events of {self._file.path}: {reply.message}")
            log.info("adopted events=%d from=%s", len(unknown), self._file.path)

    async def run(self) -> None:
        """Keep them in step until ``finish``."""
        while not self._ending.is_set():
            await self._step()
            try:
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await self._ending.wait()
            except TimeoutError:
                continue

    async def finish(self, running: asyncio.Task[None]) -> None:
        """End ``run`` and bring the file up to date for the last time."""
        self._ending.set()
        await running
        await self._step()

    async def _step(self) -> None:
        if self._revision == self._catalogue.revision and not self._file.changed():
            return
        try:
            if self._file.changed():
                await self.adopt(self._file.read())
            revision = self._catalogue.revision
            await asyncio.to_thread(self._file.write, self._catalogue.events())
            self._revision = revision
            self._told = None
        except (EventsFileError, OSError) as error:
            if str(error) != self._told:
                self._told = str(error)
                log.error("%s is not kept up to date: %s", self._file.path, error)  # noqa: TRY400
