"""Keeps events.json and the catalogue equal: adopts events from the file, and writes changed events to it."""

import asyncio
import logging
from collections.abc import Iterable

from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.commits.events_file import EventsFile, EventsFileError
from ticketd.model import Event
from ticketd.rules.working_set import Adopt
from ticketd.wire.replies import ErrorReply

log = logging.getLogger(__name__)

# How often the file is checked, and brought up to date if needed.
INTERVAL_SECONDS = 1.0
# Writing takes at most this share of the time: 100,000 events take 0.2 s, and more under load.
TIME_SHARE_MAX = 0.05


class NotAdoptedError(Exception):
    """The ledger refused events of the file; the message says why."""


class FileSync:
    """Adopts events that people wrote into the file, and writes the file when the catalogue has changed.

    The ledger decides: edits of events that it has already are ignored, and overwritten later.
    """

    def __init__(self, file: EventsFile, catalogue: Catalogue, committer: Committer) -> None:
        self._file = file
        self._catalogue = catalogue
        self._committer = committer
        self._revision = -1
        self._ending = asyncio.Event()
        # The fault that was logged last, so that one that lasts is logged once.
        self._logged: str | None = None

    async def start(self, events: Iterable[Event]) -> None:
        """Adopt the events that were in the file at the start. If the ledger refuses them, ``run`` tries again."""
        try:
            await self._adopt(events)
        except NotAdoptedError as error:
            self._log_once(str(error))

    async def run(self) -> None:
        """Check both every INTERVAL_SECONDS until ``close``, and then once more."""
        if self._file.missing:
            log.warning("%s does not exist; it will be created with the first event", self._file.path)
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
        self._logged = None
        await self._step()

    def close(self) -> None:
        """Let ``run`` bring the file up to date and return."""
        self._ending.set()

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
            if self._logged:
                log.info("%s is kept up to date again", self._file.path)
                self._logged = None
        except EventsFileError as error:
            self._log_once(f"{error}; no events are adopted from it, and it is not written: correct it")
        except NotAdoptedError as error:
            self._log_once(str(error))
        except OSError as error:
            self._log_once(f"{self._file.path} is not kept up to date ({error.strerror}); the ledger has everything")

    async def _adopt(self, events: Iterable[Event]) -> None:
        """Add the events that the ledger does not have. Raises NotAdoptedError if it refuses them."""
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
            for reply in await self._committer.ask(unknown, str(self._file.path)):
                if isinstance(reply, ErrorReply):
                    self._file.forget()
                    raise NotAdoptedError(f"not all events of {self._file.path} are adopted: {reply.message}")
            log.info("adopted events=%d from=%s", len(unknown), self._file.path)

    def _log_once(self, fault: str) -> None:
        if fault != self._logged:
            self._logged = fault
            log.error("%s", fault)
