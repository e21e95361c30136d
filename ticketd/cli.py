"""The command line of the daemon: runs it, and turns failures into exit statuses."""

import asyncio
import logging
import os
import signal
import sys
import warnings
from typing import Any, NoReturn

from ticketd import daemon, tools
from ticketd.access_file import AccessFileError
from ticketd.commits.events_file import EventsFileError
from ticketd.config import STATUS_CANNOT_LISTEN, STATUS_CANNOT_OPEN, STATUS_EVENTS_FILE, STATUS_USAGE
from ticketd.ledger.base import CannotOpenError
from ticketd.logs import StderrHandler
from ticketd.security import CannotListenError
from ticketd.settings import parse

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
    # It would end the process. It waits until ``Security`` can read the files again.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    sys.setswitchinterval(SWITCH_SECONDS)
    options = parse(sys.argv[1:])
    stderr = StderrHandler(options.log_format)
    logging.basicConfig(level=options.log_level.upper(), handlers=[stderr])
    # Such as that of the driver about a ~/.pgpass that others can read.
    warnings.showwarning = lambda message, *_, **__: logging.getLogger("ticketd").warning("%s", message)
    reason = ""
    try:
        daemon.raise_open_files_limit(options.limits)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            status = runner.run(daemon.run(options, stderr.write_line))
    except CannotOpenError as error:
        status, reason = STATUS_CANNOT_OPEN, str(error)
    except AccessFileError as error:
        status, reason = STATUS_USAGE, str(error)
    except EventsFileError as error:
        reason = f"{error}; correct it, or name another with --events: the ledger keeps its events"
        status = STATUS_EVENTS_FILE
    except CannotListenError as error:
        status, reason = STATUS_CANNOT_LISTEN, str(error)
    if reason:
        stderr.write_reason(reason)
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
