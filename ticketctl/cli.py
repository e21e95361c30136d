"""The command line: options, then one command, the shell, or a script on standard input. Ends with the exit status."""

import argparse
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta

from ticketctl.client import Client
from ticketctl.commands import Leave, is_comment, known, run
from ticketctl.link import UNIX_PREFIX
from ticketctl.output import (
    BUSY,
    CANNOT_CONNECT,
    DONE,
    INTERRUPTED,
    OUTCOME_UNKNOWN,
    REFUSED,
    USAGE,
    Output,
    default_host,
    default_port,
    default_timezone,
    default_tls_ca,
    default_token_file,
    discard,
)
from ticketctl.protocol import TIMEOUT_SECONDS
from ticketctl.render import Mode, usages
from ticketctl.times import Zone
from ticketctl.tokens import read_token
from ticketd import __version__
from ticketd.errors import TicketError
from ticketd.wire import PORT, words
from ticketd.wire.replies import error_reply
from ticketd.wire.schema import must_be, shown

Port = Annotated[int, Meta(ge=1, le=65_535)]
Timeout = Annotated[float, Meta(gt=0, le=86_400)]


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
    parser = _parser()
    # What is not an option of ticketctl belongs to the command, in the order in which it was typed.
    options, command = parser.parse_known_args(arguments)
    client = _client(options, parser)
    mode: Mode = "json" if options.json else "table" if sys.stdout.isatty() else "plain"
    output = Output(mode, options.quiet, zone=_zone(options, parser), options=_repeated(options))
    output.token_file = options.token_file or default_token_file()
    if options.help and not command:
        parser.print_help()
        return DONE
    if options.help:
        command = ["help", command[0]]
    if command:
        if command[0].startswith("-") and command[0] != "--":
            # Somebody may have written a token after the equals sign.
            option = command[0].partition("=")[0]
            parser.error(f"there is no option {shown(option)}; ticketctl --help lists them")
        return run(command, client, output)
    if sys.stdin is None:
        parser.error("there is no command, and standard input is closed")
    if sys.stdin.isatty():
        # Imported here, because it takes longer than most commands.
        from ticketctl.shell import run_shell

        return run_shell(client, output)
    return run_script(sys.stdin, client, output, bail=options.bail)


def run_script(lines: Iterable[str], client: Client, output: Output, *, bail: bool) -> int:
    """Run the command in each line. Return the status of the first that failed; ``bail`` stops there.

    Blank lines and lines that begin with ``#`` are skipped. ``exit`` and Ctrl-C end the script.
    """
    first_failure = DONE
    for number, line in enumerate(lines, 1):
        output.line = number
        try:
            status = _run_line(line, client, output)
        except Leave:
            break
        first_failure = first_failure or status
        if status and (bail or status == INTERRUPTED):
            break
    return first_failure


def _run_line(line: str, client: Client, output: Output) -> int:
    if is_comment(line):
        return DONE
    try:
        command = words.split(line)
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    return run(command, client, output)


def _parser() -> argparse.ArgumentParser:
    # Two columns are for the indent.
    columns = shutil.get_terminal_size().columns - 2 if sys.stdout.isatty() else None
    described = usages((command.help for command in known().values()), columns)
    parser = argparse.ArgumentParser(
        prog="ticketctl",
        usage="ticketctl [options] [command]",
        description="Talks to ticketd. Without a command: a shell on a terminal, else a script\n"
        "from standard input with a command in each line.\n\ncommands:\n"
        + "\n".join(f"  {line}" for line in described),
        epilog=f"exit status: {DONE} done, {REFUSED} refused, {USAGE} usage, {CANNOT_CONNECT} cannot connect,\n"
        f"{OUTCOME_UNKNOWN} the outcome of a write is unknown, {BUSY} busy, {INTERRUPTED} Ctrl-C",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("--host", help="where ticketd listens, or unix:PATH (TICKETD_HOST, or 127.0.0.1)")
    parser.add_argument("--port", help=f"its port (TICKETD_PORT, or {PORT})")
    parser.add_argument("--tls", action="store_true", help="connect with TLS, and check the certificate and the host")
    parser.add_argument("--tls-ca", metavar="FILE", help="trust these certificates (TICKETD_TLS_CA); implies --tls")
    parser.add_argument("--token-file", metavar="FILE", help="a file with your token (TICKETD_TOKEN_FILE)")
    parser.add_argument("--plain-token", action="store_true", help="send the token also where others can read it")
    parser.add_argument("--timeout", metavar="SECONDS", help=f"how long to wait for a reply ({TIMEOUT_SECONDS:g})")
    parser.add_argument("--timezone", metavar="ZONE", help="of times, such as Europe/Berlin (TICKETD_TIMEZONE, or TZ)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, errors included")
    parser.add_argument("-q", "--quiet", action="store_true", help="show errors only")
    parser.add_argument("--bail", action="store_true", help="end a script at its first failure")
    parser.add_argument("-h", "--help", action="store_true", help="show this, or with a command its help")
    parser.add_argument("--version", action="version", version=f"ticketctl {__version__}")
    return parser


def _client(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Client:
    """Return the client for these options, or exit with USAGE."""
    host: str = options.host or default_host()
    if not host.isprintable():
        parser.error(f"the host must be a name or an address, not {shown(host)}")
    port: int = _number("the port", options.port or default_port(), str, Port, parser)
    timeout = TIMEOUT_SECONDS
    if options.timeout is not None:
        timeout = _number("--timeout", options.timeout, float, Timeout, parser)
    tls, token = None, None
    try:
        authorities, token_file = options.tls_ca or default_tls_ca(), options.token_file or default_token_file()
        _check_files(host, options)
        # The variable is for hosts, and may stay.
        if (options.tls or authorities) and not host.startswith(UNIX_PREFIX):
            # Imported here, because it takes longer than most commands.
            from ticketctl.security import Tls

            tls = Tls(authorities)
        if token_file:
            token = read_token(token_file, may_be_read=options.plain_token)
    except ValueError as error:
        parser.exit(USAGE, f"ticketctl: {error}\n")
    return Client(host, port, tls=tls, token=token, timeout=timeout)


def _check_files(host: str, options: argparse.Namespace) -> None:
    """Raise ValueError if options name no file, or do not fit together."""
    for name, value in (("--tls-ca", options.tls_ca), ("--token-file", options.token_file)):
        if value == "":
            raise ValueError(f"{name} needs the name of a file")
    if host == UNIX_PREFIX:
        raise ValueError(f"the host {UNIX_PREFIX} needs the path of a socket, such as unix:/run/ticketd/socket")
    if host.startswith(UNIX_PREFIX) and (options.tls or options.tls_ca):
        raise ValueError("a unix socket has no TLS; leave out --tls and --tls-ca")


def _repeated(options: argparse.Namespace) -> list[str]:
    """Return the options that say how to connect, as they were given."""
    given = [f"--{name}" for name in ("tls", "plain-token") if getattr(options, name.replace("-", "_"))]
    for name in ("tls-ca", "token-file"):
        if value := getattr(options, name.replace("-", "_")):
            given += [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
    return given


def _zone(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Zone:
    """Return the zone for these options, or exit with USAGE."""
    try:
        return Zone(options.timezone or default_timezone())
    except ValueError as error:
        parser.error(str(error))


def _number(name: str, word: str, read: Callable[[str], object], bounds: Any, parser: argparse.ArgumentParser) -> Any:
    try:
        return msgspec.convert(read(word), bounds, strict=False)
    except (ValueError, msgspec.ValidationError):
        parser.error(f"{name} must be {must_be(bounds)}, not {shown(word)}")
