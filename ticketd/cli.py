"""Flags and environment to limits; the wiring; signals; the exit status."""

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import msgspec
from msgspec import Struct

from ticketd import __version__
from ticketd.box_office import BoxOffice
from ticketd.catalogue import Catalogue
from ticketd.config import Limits
from ticketd.declared import Field, shown
from ticketd.events_file import EventsFile, EventsFileError
from ticketd.follower import follow
from ticketd.ids import new_id
from ticketd.keeper import Keeper
from ticketd.logs import StderrHandler
from ticketd.protocol import PORT
from ticketd.server import TURNED_AWAY_MAX, Server
from ticketd.session import House
from ticketd.stores.base import CannotOpenError, LedgerFailedError, SharedStore, Store
from ticketd.stores.database_url import is_database_url, public_name
from ticketd.stores.sqlite import SqliteStore
from ticketd.watchers import Watchers

log = logging.getLogger("ticketd")

STATUS_USAGE = 2
STATUS_CANNOT_LISTEN = 3
STATUS_EVENTS_FILE = 4
STATUS_CANNOT_OPEN = 5
STATUS_STORAGE_FAILED = 6

# After the storage has failed, replies get this long to reach their clients.
FAREWELL_SECONDS_MAX = 2.0
# While the loop computes without a pause, the thread that commits gets at the interpreter this soon. A round of the
# loop is shorter than the five milliseconds of Python, and starts the wait anew: commits would take a hundred times
# as long.
SWITCH_SECONDS = 0.000_1
# A crowd that waits is no garbage, but by Python's 700 it would be looked through a hundred times a second.
OBJECTS_PER_COLLECTION = 20_000


class Options(Struct):
    """What the daemon was told to do."""

    host: str
    port: int
    events: Path
    keep_events: bool
    store: str
    accept_losses: bool
    log_level: str
    limits: Limits


def main() -> NoReturn:
    """Run the daemon and exit with its status; see ``--help``."""
    _open_standard_streams()
    sys.setswitchinterval(SWITCH_SECONDS)
    options = parse(sys.argv[1:])
    stderr = StderrHandler()
    logging.basicConfig(level=options.log_level.upper(), handlers=[stderr])
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(options, stderr.say))
    except CannotOpenError as error:
        _fail(STATUS_CANNOT_OPEN, str(error))
    except EventsFileError as error:
        _fail(STATUS_EVENTS_FILE, f"{error}; mend it, or move it away: the ledger keeps what it has taken in")
    except CannotListenError as error:
        _fail(STATUS_CANNOT_LISTEN, str(error))
    sys.exit(0)


def _open_standard_streams() -> None:
    # A stream that was closed, as by `2>&-`, would leave its number to the next socket or file.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class CannotListenError(Exception):
    """The address cannot be listened on; the message says why."""


async def _serve(options: Options, say: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, _stop, stop, signum)
    limits = options.limits
    _raise_open_files_limit(limits.connections_max + limits.waiting_max + TURNED_AWAY_MAX)

    file = EventsFile(options.events)
    listed = file.read()
    store, name = await _open_store(options)
    catalogue = Catalogue(await store.events())
    following = loop.create_task(follow(store, catalogue)) if isinstance(store, SharedStore) else None
    box_office = BoxOffice(store, catalogue, limits)
    selling = loop.create_task(box_office.run())
    keeper = Keeper(file, catalogue, box_office)
    # What has run out while the daemon was down goes back on sale before anybody looks.
    await box_office.submit([], "start")
    await keeper.start(listed)
    if selling.done():
        log.critical("the storage failed, ending; start it again when that is mended: %s", selling.exception())
        _end_at_once()
    server = Server(house := House(box_office, catalogue, limits, Watchers(catalogue)))
    try:
        addresses = await server.listen(options.host, options.port)
    except (OSError, UnicodeError) as error:
        await _close(box_office, selling, store)
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else str(error)
        where = f"{options.host}:{options.port}"
        raise CannotListenError(f"cannot listen on {where}: {reason}; choose another --port or --host") from None
    keeping = loop.create_task(keeper.run()) if options.keep_events else None
    # What is there now stays. To look through it for garbage takes tens of milliseconds, in which nobody is served.
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    say(
        f"ready listen={','.join(addresses)} store={name} events={len(catalogue)}"
        f" loop={type(loop).__module__.partition('.')[0]} version={__version__}"
    )
    stopping = loop.create_task(stop.wait())
    await asyncio.wait([stopping, selling], return_when=asyncio.FIRST_COMPLETED)
    if selling.done():
        failure = selling.exception()
        bug = None if isinstance(failure, LedgerFailedError) else failure
        log.critical("the storage failed, ending; start it again when that is mended: %s", failure, exc_info=bug)
        await server.drain(FAREWELL_SECONDS_MAX)
        _end_at_once()
    log.info("draining connections=%d", house.connections)
    await server.drain(limits.drain_seconds_max)
    if keeping:
        await keeper.finish(keeping)
    if following:
        following.cancel()
    await _close(box_office, selling, store)
    log.info("ended")


async def _open_store(options: Options) -> tuple[Store, str]:
    """Return the ledger, and how it is named in the log. Raises CannotOpenError."""
    seconds = options.limits.commit_seconds_max
    if not is_database_url(options.store):
        return SqliteStore(Path(options.store), new_id, seconds, accept_losses=options.accept_losses), options.store
    try:
        from ticketd.stores.postgres import PostgresStore
    except ModuleNotFoundError as error:
        raise CannotOpenError(
            f"{error.name} is missing, which it takes to sell from PostgreSQL: pip install {error.name}"
        ) from None
    store = await PostgresStore.open(options.store, new_id, seconds)
    return store, f"postgresql://{store.name}"


async def _close(box_office: BoxOffice, selling: asyncio.Task[None], store: Store) -> None:
    box_office.close()
    try:
        await selling
        await store.close()
    except LedgerFailedError as error:
        log.critical("the storage failed, ending; start it again when that is mended: %s", error)
        _end_at_once()


def _end_at_once() -> NoReturn:
    # Not a byte more may be written to the ledger: the restart finds out what is durable.
    logging.shutdown()
    os._exit(STATUS_STORAGE_FAILED)


def _stop(stop: asyncio.Event, signum: int) -> None:
    if stop.is_set():
        os._exit(128 + signum)
    stop.set()


def _raise_open_files_limit(connections: int) -> None:
    # Beside the connections: the ledger, its log, the listener, and the like.
    wanted = connections + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
        if possible < wanted:
            log.warning("open files are limited to %d, and %d connections need %d", hard, connections, wanted)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _fail(status: int, message: str) -> NoReturn:
    print(f"ticketd: {message}", file=sys.stderr)
    sys.exit(status)


def parse(arguments: list[str]) -> Options:
    """Return what flags, environment and defaults say, in this order, or exit with STATUS_USAGE and say why."""
    hints = get_type_hints(Limits, include_extras=True)
    fields = {name: Field(name, hints[name], required=False) for name in Limits.__struct_fields__}
    defaults = {field: getattr(Limits(), field) for field in fields}
    parser = argparse.ArgumentParser(
        prog="ticketd",
        usage="ticketd [options]",
        description="Sells tickets over TCP, exactly once each. Every flag with a value is an environment variable too:"
        " --idle-seconds-max is TICKETD_IDLE_SECONDS_MAX. A flag wins.",
        epilog=f"exit status: 0 ended by a signal, {STATUS_USAGE} a bad flag, {STATUS_CANNOT_LISTEN} cannot listen,"
        f" {STATUS_EVENTS_FILE} the events file does not parse, {STATUS_CANNOT_OPEN} cannot open the ledger,"
        f" {STATUS_STORAGE_FAILED} the storage failed while running (start it again: nothing acknowledged is lost)",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ticketd {__version__}")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", help=f"port to listen on, 0 for a free one ({PORT})")
    parser.add_argument("--events", metavar="FILE", help="the catalogue file (events.json)")
    parser.add_argument(
        "--store",
        metavar="LEDGER",
        help="the ledger: a path (events.db beside the events file), or postgresql://user@host/database, which many"
        " daemons may share; the events file is only read then, once, unless --events is given",
    )
    parser.add_argument(
        "--accept-losses",
        action="store_true",
        help="open a ledger that lacks acknowledged commits, or its seal; what they sold is on sale again",
    )
    parser.add_argument("--log-level", help="debug, info, warning or error (info)")
    limits = parser.add_argument_group("limits")
    for name, field in fields.items():
        limits.add_argument(_flag(name), metavar="N", help=f"{field.description} ({defaults[name]:g})")
    flags = vars(parser.parse_args(arguments))

    def told(name: str) -> tuple[str | None, str]:
        if flags[name] is not None:
            return flags[name], _flag(name)
        variable = f"TICKETD_{name.upper()}"
        return os.environ.get(variable) or None, variable

    values: dict[str, Any] = {}
    for name, field in fields.items():
        value, source = told(name)
        if value is not None:
            try:
                values[name] = msgspec.convert(value, hints[name], strict=False)
            except msgspec.ValidationError:
                parser.error(f"{source} must be {field.must_be}, not {shown(value)}")
    port, source = told("port")
    if port is not None and not (port.isascii() and port.isdigit() and int(port[:6]) <= 65_535):
        parser.error(f"{source} must be a whole number from 0 to 65535, not {shown(port)}")
    level, source = told("log_level")
    if level is not None and level.lower() not in ("debug", "info", "warning", "error"):
        parser.error(f"{source} must be debug, info, warning or error, not {shown(level)}")
    given = told("events")[0]
    events = Path(given or "events.json")
    if not events.name:
        parser.error("--events must be a file")
    store, source = told("store")
    if flags["store"] == "" or os.environ.get("TICKETD_STORE") == "":
        # What was meant may be lost, and another ledger would sell the same tickets.
        parser.error("TICKETD_STORE or --store is empty; leave it out for a ledger beside the events file")
    store = store or str(events.with_name("events.db"))
    shared = is_database_url(store)
    if shared:
        try:
            public_name(store)
        except ValueError as error:
            parser.error(f"{source} is no URL of a database; {error}")
    if "://" in store and not shared:
        parser.error(f"{source} must be a path or a URL that begins with postgresql://")
    if shared and flags["accept_losses"]:
        parser.error("--accept-losses is for a ledger in a file")
    return Options(
        host=told("host")[0] or "127.0.0.1",
        port=PORT if port is None else int(port),
        events=events,
        keep_events=given is not None or not shared,
        store=store,
        accept_losses=flags["accept_losses"],
        log_level=level or "info",
        limits=Limits(**values),
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
