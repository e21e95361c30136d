"""Keeps events.json and the ledger's catalogue in step, in both directions."""

import asyncio
import logging
from collections.abc import Iterable

from ticketd.books import Adopt
from ticketd.box_office import BoxOffice
from ticketd.catalogue import Catalogue
from ticketd.events_file import EventsFile, EventsFileError
from ticketd.model import Event
from ticketd.protocol import ErrorReply

log = logging.getLogger(__name__)

# How often the file is looked at, and brought up to date if need be.
INTERVAL_SECONDS = 1.0
# A hundred thousand events take 0.2 s to write, more while there is much to do; and selling comes first.
TIME_SHARE_MAX = 0.05


class NotTakenInError(Exception):
    """The ledger refused events of the file; the message says why."""


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

    async def start(self, events: Iterable[Event]) -> None:
        """Take in what the file had. What the ledger has no room for is taken in when there is."""
        try:
            await self._adopt(events)
        except NotTakenInError as error:
            self._tell(str(error))

    async def run(self) -> None:
        """Keep them in step until ``finish``."""
        if self._file.missing:
            log.warning("%s does not exist; it is made when there is an event", self._file.path)
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            began = loop.time()
            await self._step()
            seconds = max(INTERVAL_SECONDS, (loop.time() - began) / TIME_SHARE_MAX)
            try:
                async with asyncio.timeout(seconds):
                    await self._ending.wait()
            except TimeoutError:
                continue

    async def finish(self, running: asyncio.Task[None]) -> None:
        """End ``run`` and bring the file up to date for the last time."""
        self._ending.set()
        await running
        self._told = None
        await self._step()

    async def _step(self) -> None:
        if self._revision == self._catalogue.revision and not self._file.changed():
            return
        try:
            if self._file.changed():
                await self._adopt(self._file.read())
            revision = self._catalogue.revision
            if not await asyncio.to_thread(self._file.write, self._catalogue.events()):
                return
            self._revision = revision
            if self._told:
                log.info("%s is kept up to date again", self._file.path)
                self._told = None
        except EventsFileError as error:
            self._tell(f"{error}; nothing is taken in from it, and it is not written: mend it")
        except NotTakenInError as error:
            self._tell(str(error))
        except OSError as error:
            self._tell(f"{self._file.path} is not kept up to date ({error.strerror}); the ledger is")

    async def _adopt(self, events: Iterable[Event]) -> None:
        """Put those events into the ledger that it does not know. For those that it knows, the ledger is right.

        Raises NotTakenInError if the ledger cannot take them.
        """
        unknown: list[Adopt] = []
        edited: list[str] = []
        for event in events:
            known = self._catalogue.get(event.id)
            if known is None:
                unknown.append(Adopt(event))
            elif (known.name, known.date, known.capacity) != (event.name, event.date, event.capacity):
                edited.append(event.id)
        if edited:
            log.warning("ignored edits of known events=%s in %s", ",".join(edited), self._file.path)
        if unknown:
            for reply in await self._box_office.submit(unknown, str(self._file.path)):
                if isinstance(reply, ErrorReply):
                    self._file.forget()
                    raise NotTakenInError(f"the events of {self._file.path} are not taken in: {reply.message}")
            log.info("adopted events=%d from=%s", len(unknown), self._file.path)

    def _tell(self, fault: str) -> None:
        if fault != self._told:
            self._told = fault
            log.error("%s", fault)
