"""Keeps events.json and the catalogue equal: adopts events from the file, and writes changed events to it.

The file is read, checked and written in a thread. Longer work on the loop is done in slices.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.commits.events_file import EventsFile, EventsFileError
from ticketd.disk_thread import DiskThread
from ticketd.ledger.base import CannotOpenError
from ticketd.rules.working_set import Adopt
from ticketd.wire.events_json import EventsJsonError, FileEvent, check_new_name
from ticketd.wire.replies import ErrorReply

log = logging.getLogger(__name__)

T = TypeVar("T")

# How often the file is checked, and brought up to date if needed.
INTERVAL_SECONDS = 1.0
# Writing takes at most this share of the time: 100,000 events take 0.2 s, and more under load.
TIME_SHARE_MAX = 0.05
# If the disk takes longer, the log says so; at the start, it is an error.
DISK_SECONDS_MAX = 10.0
# How many events are adopted in one commit. Deciding on them takes the loop a few milliseconds. With many more, a slow
# database would need more time than a transaction may take.
EVENTS_PER_COMMIT = 500


class NotAdoptedError(Exception):
    """The ledger refused events of the file; the message says why. ``cut_off``: because it did not answer in time."""

    def __init__(self, message: str, *, cut_off: bool) -> None:
        super().__init__(message)
        self.cut_off = cut_off


async def read_at_start(file: EventsFile, thread: DiskThread) -> list[FileEvent]:
    """Return the events of the file. Raises EventsFileError, also if the disk does not answer."""
    try:
        async with asyncio.timeout(DISK_SECONDS_MAX):
            return await thread.do(file.read)
    except TimeoutError:
        raise EventsFileError(f"cannot read {file.path} (its disk does not answer)") from None


class FileSync:
    """Adopts events that people wrote into the file, and writes the file when the catalogue has changed.

    The ledger decides: edits of events that it has already are ignored, and overwritten later.
    """

    def __init__(self, file: EventsFile, thread: DiskThread, catalogue: Catalogue, committer: Committer) -> None:
        self._file = file
        self._thread = thread
        self._catalogue = catalogue
        self._committer = committer
        self._revision = -1
        self._ending = asyncio.Event()
        # The fault that was logged last, so that one that lasts is logged once.
        self._logged: str | None = None

    async def start(self, events: Sequence[FileEvent]) -> None:
        """Adopt the events that were in the file at the start. If the ledger refuses them, ``run`` tries again.

        Raises EventsFileError if one of them must not be adopted, and CannotOpenError if the ledger does not answer.
        """
        try:
            await self._adopt(self._unknown(events))
        except NotAdoptedError as error:
            if error.cut_off:
                # ``run`` may never run, and nobody must be served from half a catalogue without a word.
                raise CannotOpenError(f"{error}; start ticketd again, which adopts the rest") from None
            self._log_once(str(error))

    async def run(self) -> None:
        """Check both every INTERVAL_SECONDS until ``close``, and then write the file once more."""
        if await self._on_disk(lambda: self._file.missing):
            log.info("%s does not exist; it will be created with the first event", self._file.path)
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
        try:
            unknown = await self._on_disk(self._read_unknown)
            if unknown is None and self._revision == self._catalogue.revision:
                return
            if unknown:
                await self._adopt(unknown)
            revision = self._catalogue.revision
            events = self._catalogue.events()
            if not await self._on_disk(lambda: self._file.write(events)):
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

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """Do work in the thread. If the disk does not answer, log that and wait on, until ``run`` is cancelled."""
        result = self._thread.do(work)
        await asyncio.wait([result], timeout=DISK_SECONDS_MAX)
        if not result.done():
            self._log_once(
                f"{self._file.path} is not kept up to date: its disk does not answer; the ledger has everything"
            )
        return await result

    def _read_unknown(self) -> list[FileEvent] | None:
        """Return the events of the file that the ledger does not have; None if the file has not changed."""
        return self._unknown(self._file.read()) if self._file.changed() else None

    def _unknown(self, events: Sequence[FileEvent]) -> list[FileEvent]:
        """Return those events that the ledger does not have. Raises EventsFileError.

        Safe in the thread, since the catalogue replaces its events, and never changes them.
        """
        unknown: list[FileEvent] = []
        edited: list[str] = []
        for event in events:
            known = self._catalogue.get(event.id)
            if known is None:
                unknown.append(event)
            elif event.event().terms != known.terms._replace(paused=False, per_buyer=None):
                edited.append(event.id)
        if edited:
            log.warning("ignored edits of known events=%s in %s", ",".join(edited), self._file.path)
        try:
            for event in unknown:
                check_new_name(event)
        except EventsJsonError as error:
            raise self._file.refuse(f"{self._file.path}: {error}") from None
        return unknown

    async def _adopt(self, unknown: Sequence[FileEvent]) -> None:
        """Add events that the ledger does not have. Raises NotAdoptedError if it refuses one."""
        if len(unknown) > EVENTS_PER_COMMIT:
            log.info("adopting events=%d from=%s", len(unknown), self._file.path)
        for start in range(0, len(unknown), EVENTS_PER_COMMIT):
            requests = [Adopt(event.event()) for event in unknown[start : start + EVENTS_PER_COMMIT]]
            for reply in await self._committer.ask(requests, str(self._file.path)):
                if isinstance(reply, ErrorReply):
                    self._file.forget()
                    message = f"not all events of {self._file.path} are adopted ({reply.message})"
                    raise NotAdoptedError(message, cut_off=reply.code in ("busy", "outcome_unknown"))
        # The ledger adopts no event that was deleted; it leaves the file when that is written next.
        deleted = [event.id for event in unknown if self._catalogue.get(event.id) is None]
        if deleted:
            log.warning("ignored deleted events=%s in %s", ",".join(deleted), self._file.path)
        if adopted := len(unknown) - len(deleted):
            log.info("adopted events=%d from=%s", adopted, self._file.path)

    def _log_once(self, fault: str) -> None:
        if fault != self._logged:
            self._logged = fault
            log.error("%s", fault)
