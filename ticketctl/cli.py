"""The command line: one command, the shell, or a script on standard input. Ends with the exit status."""

import io
import os
import sys
from pathlib import Path
from typing import NoReturn

from ticketctl.client import CannotConnectError, Client
from ticketctl.commands import Leave, known, run
from ticketctl.lines import run_script
from ticketctl.options import client_of, help_text, options_parser, repeated, seconds_of, zone_of
from ticketctl.output import CANNOT_CONNECT, DONE, INTERRUPTED, REFUSED, Output, default_token_file, discard
from ticketctl.patience import wait_for
from ticketctl.render import Mode
from ticketd.wire.schema import shown
from ticketd.wire.text import did_you_mean


def main() -> NoReturn:
    """Do what the command line says, and exit with its status; see ``--help``."""
    _prepare_streams()
    try:
        status = _main(sys.argv[1:])
        sys.stdout.flush()
    except Leave:
        status = DONE
    except KeyboardInterrupt:
        status = INTERRUPTED
    except OSError as error:
        print(f"ticketctl: cannot write the output: {error.strerror}", file=sys.stderr)
        discard(sys.stdout)
        status = REFUSED
    except MemoryError:
        print("ticketctl: not enough memory for this reply; ask for less, such as list --limit 100", file=sys.stderr)
        status = REFUSED
    sys.exit(status)


def _prepare_streams() -> None:
    # A terminal that cannot show a name shows an escape. A script that is not UTF-8 is refused like other bad input.
    for stream, errors in ((sys.stdout, "backslashreplace"), (sys.stdin, "surrogateescape")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    # Python has None for a stream that was closed. Its number must not go to the next file or socket.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115


def _main(arguments: list[str]) -> int:
    parser = options_parser()
    # What is not an option of ticketctl belongs to the command, in the order in which it was typed.
    options, command = parser.parse_known_args(arguments)
    if options.help and not command:
        print(help_text(parser, known()), end="")
        return DONE
    mode: Mode = "json" if options.json else "table" if sys.stdout.isatty() else "plain"
    output = Output(mode, options.quiet, zone=zone_of(options, parser), options=repeated(options))
    if options.help:
        # Whatever is wrong with the options of the connection: help needs none.
        return run(["help", command[0]], Client(), output)
    client = client_of(options, parser)
    output.token_file = options.token_file or default_token_file()
    if command and command[0].startswith("-") and command[0] != "--":
        # Somebody may have written a token after the equals sign.
        option = command[0].partition("=")[0]
        hint = did_you_mean(option, parser._option_string_actions, "ticketctl --help lists them")
        parser.error(f"there is no option {shown(option)}; {hint}")
    if seconds := seconds_of(options.wait, "--wait", parser):
        try:
            wait_for(client_of(options, parser, seconds), seconds)
        except CannotConnectError as error:
            output.failure("cannot_connect", str(error))
            return CANNOT_CONNECT
    if command:
        return run(command, client, output)
    if sys.stdin is None:
        parser.error("there is no command, and standard input is closed")
    if sys.stdin.isatty():
        # Imported here, because it takes longer than most commands.
        from ticketctl.shell import run_shell

        return run_shell(client, output)
    return run_script(sys.stdin, client, output, bail=options.bail)
