"""argv to one command, the shell, or a script of commands on standard input; the exit status."""

import argparse
import io
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from ticketctl.client import Client
from ticketctl.commands import (
    BUSY,
    CANNOT_CONNECT,
    DONE,
    EXIT,
    INTERRUPTED,
    OUTCOME_UNKNOWN,
    OWN,
    REFUSED,
    USAGE,
    Output,
    default_host,
    default_port,
    forget,
    is_comment,
    run,
)
from ticketctl.render import Mode, usages
from ticketd import __version__, words
from ticketd.declared import shown
from ticketd.errors import TicketError
from ticketd.protocol import COMMANDS, PORT, error_reply

TIMEOUT_SECONDS = 10.0
TIMEOUT_SECONDS_MAX = 86_400.0


def main() -> NoReturn:
    """Do what the command line says and exit with its status; see ``--help``."""
    # A terminal that cannot show a name shows an escape; a script that is not UTF-8 is refused like other bad input.
    for stream, errors in ((sys.stdout, "backslashreplace"), (sys.stdin, "surrogateescape")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    # A stream that was closed is None. Nothing may be opened in its place by chance, such as a socket.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    try:
        status = _main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except OSError as error:
        print(f"ticketctl: cannot write the output: {error.strerror}", file=sys.stderr)
        forget(sys.stdout)
        status = REFUSED
    sys.exit(status)


def _main(arguments: list[str]) -> int:
    parser = _parser()
    # What is not an option of ours belongs to the command, in its order.
    options, command = parser.parse_known_args(arguments)
    client = Client(_host(options, parser), _port(options, parser), _timeout(options, parser))
    mode: Mode = "json" if options.json else "table" if sys.stdout.isatty() else "plain"
    output = Output(mode, options.quiet)
    if options.help and not command:
        parser.print_help()
        return DONE
    if options.help:
        command = ["help", command[0]]
    if command:
        if command[0].startswith("-") and command[0] != "--":
            parser.error(f"there is no option {shown(command[0])}; ticketctl --help lists them")
        if command[0] == EXIT.command:
            return DONE
        return run(command, client, output)
    if sys.stdin is None:
        parser.error("there is no command, and standard input is closed")
    if sys.stdin.isatty():
        from ticketctl.shell import run_shell

        return run_shell(client, output)
    return run_script(sys.stdin, client, output, bail=options.bail)


def run_script(lines: Iterable[str], client: Client, output: Output, *, bail: bool) -> int:
    """Run a command a line, and return the status of the first that failed, after which ``bail`` ends it.

    Blank lines and lines that begin with ``#`` are passed over; ``exit`` ends the script.
    """
    first_failure = DONE
    for number, line in enumerate(lines, 1):
        output.line = number
        if is_comment(line):
            continue
        try:
            command = words.split(line)
        except TicketError as error:
            output.error(error_reply(error))
            status = USAGE
        else:
            if command == [EXIT.command]:
                break
            status = run(command, client, output)
        first_failure = first_failure or status
        if status and (bail or status == INTERRUPTED):
            break
    return first_failure


def _parser() -> argparse.ArgumentParser:
    commands = usages([*COMMANDS.values(), *OWN.values()])
    parser = argparse.ArgumentParser(
        prog="ticketctl",
        usage="ticketctl [options] [command]",
        description="Talks to ticketd. Without a command: a shell on a terminal, else a script of commands, one a\n"
        "line, from standard input.\n\ncommands:\n" + "\n".join(f"  {line}" for line in commands),
        epilog=f"exit status: {DONE} done, {REFUSED} refused, {USAGE} usage, {CANNOT_CONNECT} cannot connect,\n"
        f"{OUTCOME_UNKNOWN} the outcome of a write is unknown, {BUSY} busy, {INTERRUPTED} Ctrl-C",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("--host", help="where ticketd listens (TICKETD_HOST, or 127.0.0.1)")
    parser.add_argument("--port", help=f"its port (TICKETD_PORT, or {PORT})")
    parser.add_argument("--timeout", metavar="SECONDS", help=f"how long to wait for a reply ({TIMEOUT_SECONDS:g})")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, failures included")
    parser.add_argument("-q", "--quiet", action="store_true", help="show failures only")
    parser.add_argument("--bail", action="store_true", help="end a script at its first failure")
    parser.add_argument("-h", "--help", action="store_true", help="show this, or with a command its help")
    parser.add_argument("--version", action="version", version=f"ticketctl {__version__}")
    return parser


def _host(options: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    host: str = options.host or default_host()
    if not host.isprintable():
        parser.error(f"the host must be a name or an address, not {shown(host)}")
    return host


def _port(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    port = options.port or default_port()
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65_535):
        parser.error(f"the port must be a whole number from 1 to 65535, not {shown(port)}")
    return int(port)


def _timeout(options: argparse.Namespace, parser: argparse.ArgumentParser) -> float:
    if options.timeout is None:
        return TIMEOUT_SECONDS
    try:
        timeout = float(options.timeout)
    except ValueError:
        timeout = math.nan
    if not 0 < timeout <= TIMEOUT_SECONDS_MAX:
        parser.error(f"--timeout must be a number of seconds above 0, not {shown(options.timeout)}")
    return timeout
