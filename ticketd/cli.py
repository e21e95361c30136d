"""The command line of the daemon: turns flags and environment into options, and failures into exit statuses."""

import argparse
import asyncio
import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import msgspec

from ticketd import __version__, daemon, tools
from ticketd.access_file import AccessFileError
from ticketd.commits.events_file import EventsFileError
from ticketd.config import (
    STATUS_BUG,
    STATUS_CANNOT_LISTEN,
    STATUS_CANNOT_OPEN,
    STATUS_ENDED,
    STATUS_EVENTS_FILE,
    STATUS_LEDGER_FAILED,
    STATUS_USAGE,
    Limits,
    Options,
)
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.postgres.url import is_database_url, public_name
from ticketd.logs import StderrHandler
from ticketd.security import CannotListenError
from ticketd.wire import PORT
from ticketd.wire.schema import Field, shown

# After this time, the busy loop hands the interpreter's lock to the thread that commits. It starts anew with each
# callback of the loop, so it must be shorter than most: with 100 us, readers delayed a commit by 40 ms, and with
# Python's 5 ms commits would take a hundred times as long.
SWITCH_SECONDS = 0.000_02


def main() -> NoReturn:
    """Run the daemon and exit with its status; see ``--help``."""
    _open_standard_streams()
    # New files are for this user alone: whoever can read the ledger knows every ticket.
    os.umask(0o077)
    if sys.argv[1:2] and sys.argv[1] in tools.COMMANDS:
        tools.main(sys.argv[1:], _loop_factory())
    sys.setswitchinterval(SWITCH_SECONDS)
    options = parse(sys.argv[1:])
    stderr = StderrHandler()
    logging.basicConfig(level=options.log_level.upper(), handlers=[stderr])
    # Such as that of the driver about a ~/.pgpass that others can read.
    warnings.showwarning = lambda message, *_, **__: logging.getLogger("ticketd").warning("%s", message)
    try:
        daemon.raise_open_files_limit(options.limits)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            status = runner.run(daemon.run(options, stderr.write_line))
    except CannotOpenError as error:
        _fail(STATUS_CANNOT_OPEN, str(error))
    except AccessFileError as error:
        _fail(STATUS_USAGE, str(error))
    except EventsFileError as error:
        _fail(STATUS_EVENTS_FILE, f"{error}; correct it, or name another with --events: the ledger keeps its events")
    except CannotListenError as error:
        _fail(STATUS_CANNOT_LISTEN, str(error))
    sys.exit(status)


def _open_standard_streams() -> None:
    # If one of them is closed, as by `2>&-`, the next socket or file would get its number.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


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
    """Return the options: flags override environment variables, and those override defaults.

    If one is not valid, prints why and exits with STATUS_USAGE.
    """
    hints = get_type_hints(Limits, include_extras=True)
    fields = {name: Field(name, hints[name], required=False) for name in Limits.__struct_fields__}
    defaults = {field: getattr(Limits(), field) for field in fields}
    parser = argparse.ArgumentParser(
        prog="ticketd",
        usage="ticketd [options]\n       ticketd move SOURCE TARGET\n       ticketd check LEDGER"
        "\n       ticketd migrate URL [--grant ROLE]\n       ticketd access add|list|remove",
        description="Sells tickets over TCP, exactly once each. `move` moves a whole sale from one ledger to another,"
        " `check` verifies a ledger, `migrate` creates or upgrades the tables in a PostgreSQL, and `access` gives out"
        " tokens. Every flag with a value is an environment variable too: --idle-seconds-max is"
        " TICKETD_IDLE_SECONDS_MAX. A flag overrides its variable.",
        epilog=f"exit status: {STATUS_ENDED} ended by a signal, {STATUS_USAGE} a bad flag,"
        f" {STATUS_CANNOT_LISTEN} cannot listen or serve, {STATUS_EVENTS_FILE} the events file is not valid,"
        f" {STATUS_CANNOT_OPEN} cannot open the ledger, {STATUS_LEDGER_FAILED} the ledger failed while running,"
        f" {STATUS_BUG} a bug ended it (after these two, start it again: nothing acknowledged is lost)",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ticketd {__version__}")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", help=f"port to listen on, 0 for a free one ({PORT})")
    parser.add_argument("--events", metavar="FILE", help="the catalogue file (events.json)")
    parser.add_argument(
        "--ledger",
        metavar="LEDGER",
        help="the ledger: a path (events.db beside the events file), or postgresql://user@host/database, which many"
        " daemons may share; then the events file is read once and not written, unless --events is given",
    )
    parser.add_argument(
        "--accept-losses",
        action="store_true",
        help="open a ledger that lacks acknowledged commits, or its seal; what they sold is on sale again",
    )
    parser.add_argument("--unix", metavar="PATH", help="listen on a unix socket too")
    parser.add_argument("--unix-mode", metavar="MODE", help="its file mode: who may connect (600)")
    security = parser.add_argument_group("who may do what")
    security.add_argument("--access", metavar="FILE", help="the access file, which ticketd access add makes")
    security.add_argument(
        "--open-to-the-network",
        action="store_true",
        help="let everybody do everything, without an access file, also from other machines",
    )
    security.add_argument("--tls-certificate", metavar="FILE", help="speak TLS, with this certificate chain (PEM)")
    security.add_argument("--tls-key", metavar="FILE", help="its key (PEM), if that is in another file")
    security.add_argument(
        "--plain-tokens",
        action="store_true",
        help="take tokens without TLS from other machines, where others can read them",
    )
    security.add_argument("--no-words", action="store_true", help="take only JSON, for shops that join strings")
    parser.add_argument("--log-level", help="debug, info, warning or error (info)")
    limits = parser.add_argument_group("limits")
    for name, field in fields.items():
        limits.add_argument(_flag(name), metavar="N", help=f"{field.description} ({defaults[name]:g})")
    flags = vars(parser.parse_args(arguments))

    def setting(name: str) -> tuple[str | None, str]:
        if flags[name] is not None:
            return flags[name], _flag(name)
        variable = f"TICKETD_{name.upper()}"
        return os.environ.get(variable) or None, variable

    values: dict[str, Any] = {}
    for name, field in fields.items():
        value, source = setting(name)
        if value is not None:
            try:
                values[name] = msgspec.convert(value, hints[name], strict=False)
            except msgspec.ValidationError:
                parser.error(f"{source} must be {field.must_be}, not {shown(value)}")
    if "connections_max" in values:
        # One address gets a quarter of them.
        values.setdefault("connections_per_address_max", max(1, values["connections_max"] // 4))
    port, source = setting("port")
    if port is not None and not (port.isascii() and port.isdigit() and int(port[:6]) <= 65_535):
        parser.error(f"{source} must be a whole number from 0 to 65535, not {shown(port)}")
    level, source = setting("log_level")
    if level is not None and level.lower() not in ("debug", "info", "warning", "error"):
        parser.error(f"{source} must be debug, info, warning or error, not {shown(level)}")
    events_file = setting("events")[0]
    events = Path(events_file or "events.json")
    if not events.name:
        parser.error("--events must be a file")
    ledger, source = setting("ledger")
    if flags["ledger"] == "" or os.environ.get("TICKETD_LEDGER") == "":
        # Probably a variable that was not set. The default would be another ledger, which sells the same tickets again.
        parser.error("TICKETD_LEDGER or --ledger is empty; leave it out for a ledger beside the events file")
    ledger = ledger or str(events.with_name("events.db"))
    shared = is_database_url(ledger)
    if shared:
        try:
            public_name(ledger)
        except ValueError as error:
            parser.error(f"{source} {error}")
    if "://" in ledger and not shared:
        parser.error(f"{source} must be a path or a URL that begins with postgresql://")
    if shared and flags["accept_losses"]:
        parser.error("--accept-losses is for a ledger in a file")
    mode, source = setting("unix_mode")
    if mode is not None and not (re.fullmatch("[0-7]{3}", mode)):
        parser.error(f"{source} must be three octal digits, such as 660, not {shown(mode)}")
    if mode is not None and not setting("unix")[0]:
        parser.error(f"{source} needs --unix")
    paths = {name: setting(name)[0] for name in ("access", "unix", "tls_certificate", "tls_key")}
    if paths["tls_key"] and not paths["tls_certificate"]:
        parser.error("--tls-key needs --tls-certificate")
    return Options(
        host=setting("host")[0] or "127.0.0.1",
        port=PORT if port is None else int(port),
        events=events,
        sync_events=events_file is not None or not shared,
        ledger=ledger,
        accept_losses=flags["accept_losses"],
        log_level=level or "info",
        limits=Limits(**values),
        open_to_the_network=flags["open_to_the_network"],
        plain_tokens=flags["plain_tokens"],
        words=not flags["no_words"],
        unix_mode=int(mode or "600", 8),
        **{name: None if path is None else Path(path) for name, path in paths.items()},
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
