"""Owns the parts of the daemon: starts them, supervises them, and ends them in order."""

import asyncio
import gc
import logging
import os
import resource
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ticketd import __version__
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.commits.events_file import EventsFile, EventsFileError
from ticketd.commits.file_sync import FileSync, read_at_start
from ticketd.commits.refresher import refresh
from ticketd.config import STATUS_BUG, STATUS_CANNOT_OPEN, STATUS_ENDED, STATUS_LEDGER_FAILED, Limits, Options
from ticketd.disk_thread import DiskThread
from ticketd.ledger.base import CannotOpenError, CheckedLedger, Ledger, LedgerFailedError, SharedLedger
from ticketd.ledger.embedded.files import files_of
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.ledger.postgres.url import is_database_url
from ticketd.listeners import listen, listen_for_metrics, open_sockets
from ticketd.security import CannotListenError, Security
from ticketd.serving.server import DESCRIPTORS_RESERVED, TURNED_AWAY_MAX, Server
from ticketd.serving.service import Service
from ticketd.systemd import ServiceManager

if TYPE_CHECKING:
    from ticketd.serving.monitor import Monitor

log = logging.getLogger("ticketd")

# The shares of ``drain_seconds_max`` after which connections are cut off, the events file is given up, and then the
# ledger. The rest is for ending the process.
CONNECTIONS_SHARE = 0.5
FILE_SHARE = 0.65
LEDGER_SHARE = 0.95
# After the ledger has failed, connections get this long to receive their last replies.
FAILED_DRAIN_SECONDS_MAX = 2.0
# With Python's default of 700, the garbage collector would run 100 times a second in a crowd, and find nothing.
OBJECTS_PER_COLLECTION = 20_000


class Ending:
    """When and how the daemon ends: in order after a signal or a bug, at once if vital work or the ledger fails."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self.status = STATUS_ENDED
        # Whether to exit without another write to the ledger. The next start reads what is durable.
        self.at_once = False
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_exception)
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_signal, signum)

    async def wait(self) -> None:
        """Wait until the daemon has to end."""
        await self._begun.wait()

    async def supervise(self, part: str, work: Coroutine[Any, Any, None], *, vital: bool = False) -> None:
        """Await work that runs as long as the daemon. If it fails, log the reason and end the daemon.

        After a bug in ``vital`` work, the daemon ends at once, since the state of the ledger is not known.
        """
        try:
            await work
        except LedgerFailedError as error:
            log.critical("the ledger failed, ending; remove the cause and start it again: %s", error)
            self._fail(STATUS_LEDGER_FAILED, at_once=True)
        except CannotOpenError as error:
            log.critical("ending: %s", error)
            self._fail(STATUS_CANNOT_OPEN, at_once=False)
        except Exception:
            log.critical("a bug in the %s, ending; start it again", part, exc_info=True)
            self._fail(STATUS_BUG, at_once=vital)

    def _fail(self, status: int, *, at_once: bool) -> None:
        self.status = self.status or status
        self.at_once = self.at_once or at_once
        self._begun.set()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        if "handle" in context:
            # A callback of the daemon itself failed, so part of its work was not done.
            log.critical("a bug in a callback, ending; start it again")
            self._fail(STATUS_BUG, at_once=True)

    def _on_signal(self, signum: int) -> None:
        if self._begun.is_set():
            os._exit(128 + signum)
        self._begun.set()


def raise_open_files_limit(limits: Limits) -> None:
    """Let the process open as many files as the connections need, or as the system permits.

    Raises CannotListenError if these are too few to serve anybody.
    """
    connections = limits.connections_max + limits.connections_waiting_max + TURNED_AWAY_MAX
    wanted = connections + DESCRIPTORS_RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if possible <= DESCRIPTORS_RESERVED:
        raise CannotListenError(
            f"only {possible} files may be open, which is too few to serve anybody: {connections} connections need"
            f" {wanted}; raise the limit (ulimit -Hn {wanted}) and start it again"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        log.warning("open files are limited to %d, and %d connections need %d", hard, connections, wanted)


async def run(options: Options, write_line: Callable[[str], None]) -> int:
    """Serve until a signal or a failure, and return the exit status.

    ``write_line`` writes a line of text to the log as it is. Raises CannotOpenError, EventsFileError or
    CannotListenError.
    """
    ending, manager = Ending(), ServiceManager()
    limits = options.limits
    ledger_files = () if is_database_url(options.ledger) else files_of(Path(options.ledger))
    file, disk_thread = EventsFile(options.events, ledger_files), DiskThread("events-file")
    security = Security(options)
    await security.look_up_users()
    # Before there is a ledger: whoever is refused has changed nothing.
    new_monitor = _load_monitor() if options.metrics else None
    sockets = await open_sockets(options, security)
    events_in_file = await read_at_start(file, disk_thread)
    with manager.starting():
        ledger, name = await _open_ledger(options)
        catalogue = Catalogue(await ledger.events())
    committer = Committer(ledger, catalogue, limits, logs_each=options.log_sales)
    file_sync = FileSync(file, disk_thread, catalogue, committer)
    service = Service(
        committer,
        catalogue,
        limits,
        security.access,
        takes_plain_tokens=options.plain_tokens,
        takes_words=options.words,
    )
    server = Server(service)
    monitor = new_monitor(service) if new_monitor else None
    cannot_serve: CannotListenError | CannotOpenError | EventsFileError | None = None
    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(ending.supervise("watchdog", manager.keep_alive()))
        committing = tasks.create_task(ending.supervise("committer", committer.run(), vital=True))
        refreshing = syncing = reloading = None
        if isinstance(ledger, SharedLedger):
            refreshing = tasks.create_task(ending.supervise("refresher", refresh(ledger, catalogue, committer.health)))
        if isinstance(ledger, CheckedLedger):
            tasks.create_task(ending.supervise("check of the ledger", ledger.check()))
        # End holds that ran out while the daemon was down, before the first client connects.
        await committer.expiry.end()
        try:
            await file_sync.start(events_in_file)
            if ending.at_once:
                _exit_at_once(ending.status)
            # First, since it may be refused: before anybody has bought anything.
            watched = f" metrics={await listen_for_metrics(monitor, sockets.metrics)}" if monitor else ""
            addresses = await listen(server, sockets.service, options, security)
            reloading = tasks.create_task(ending.supervise("reload", security.reload_on_signal(server)))
        except (CannotListenError, CannotOpenError, EventsFileError) as error:
            cannot_serve = error
        else:
            if options.sync_events:
                syncing = tasks.create_task(ending.supervise("file sync", file_sync.run()))
            _freeze_garbage_collector()
            if security.access is None:
                log.info("no access file: whoever reaches %s may do everything", addresses)
            write_line(
                f"ready listen={addresses}{watched} ledger={name} events={len(catalogue)}"
                f" loop={type(asyncio.get_running_loop()).__module__.partition('.')[0]} version={__version__}"
                f"{security.describe()}"
            )
            manager.tell("READY=1", f"STATUS=selling on {addresses}")
            await ending.wait()
        began = asyncio.get_running_loop().time()
        if not cannot_serve:
            manager.tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={(limits.drain_seconds_max + 1) * 1e6:.0f}")
            if options.unix:
                # While it listens: nobody else can have put another one there.
                options.unix.unlink(missing_ok=True)
            await _drain(server, service, ending, limits.drain_seconds_max * CONNECTIONS_SHARE)
        if monitor:
            monitor.close()
        if syncing:
            file_sync.close()
            await _wait_for_file(syncing, file, began + limits.drain_seconds_max * FILE_SHARE)
        if refreshing:
            refreshing.cancel()
        if reloading:
            reloading.cancel()
        committer.close()
        await _close_ledger(ledger, committing, ending, began + limits.drain_seconds_max * LEDGER_SHARE)
        telling.cancel()
    if cannot_serve:
        raise cannot_serve
    log.info("ended")
    return ending.status


def _load_monitor() -> "Callable[[Service], Monitor]":
    """Return what makes the monitor. Raises CannotListenError if a module is missing."""
    try:
        from ticketd.serving.monitor import Monitor
    except ModuleNotFoundError as error:
        raise CannotListenError(
            f"{error.name} is missing, and --metrics needs it: pip install 'ticketd[metrics]'"
        ) from None
    return Monitor


async def _open_ledger(options: Options) -> tuple[Ledger, str]:
    """Return the ledger and its name for the log. Raises CannotOpenError."""
    limits = options.limits
    seconds, events_max, hold_max = limits.commit_seconds_max, limits.events_max, limits.hold_seconds_total_max
    if not is_database_url(options.ledger):
        path = Path(options.ledger)
        ledger = EmbeddedLedger(
            path,
            seconds,
            accept_losses=options.accept_losses,
            events_max=events_max,
            hold_seconds_total_max=hold_max,
        )
        return ledger, options.ledger
    try:
        from ticketd.ledger.postgres.ledger import PostgresLedger
    except ModuleNotFoundError as error:
        raise CannotOpenError(
            f"{error.name} is missing, and selling from PostgreSQL needs it: pip install {error.name}"
        ) from None
    shared = await PostgresLedger.open(options.ledger, seconds, events_max, hold_max)
    return shared, f"postgresql://{shared.name}"


async def _drain(server: Server, service: Service, ending: Ending, seconds: float) -> None:
    if ending.at_once:
        await server.drain(FAILED_DRAIN_SECONDS_MAX)
        _exit_at_once(ending.status)
    log.info("draining connections=%d", service.connections)
    await server.drain(seconds)


async def _wait_for_file(syncing: asyncio.Task[None], file: EventsFile, until: float) -> None:
    await asyncio.wait([syncing], timeout=until - asyncio.get_running_loop().time())
    if not syncing.done():
        log.warning("%s could not be brought up to date in time; the next start will do that", file.path)
        syncing.cancel()


async def _close_ledger(ledger: Ledger, committing: asyncio.Task[None], ending: Ending, until: float) -> None:
    """Wait for the last commit, and close the ledger."""
    try:
        async with asyncio.timeout_at(until):
            await committing
            await ending.supervise("ledger", ledger.close(), vital=True)
    except TimeoutError:
        log.critical(
            "the ledger did not answer in time; ending without it: nothing acknowledged is lost, start ticketd again"
        )
        _exit_at_once(STATUS_LEDGER_FAILED)
    if ending.at_once:
        _exit_at_once(ending.status)


def _exit_at_once(status: int) -> NoReturn:
    logging.shutdown()
    os._exit(status)


def _freeze_garbage_collector() -> None:
    # What is alive now stays alive. A collection of all that takes tens of milliseconds, in which no client is served.
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_PER_COLLECTION)
