"""The options of the command line: what they are, and what they and their environment mean."""

import argparse
import shutil
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ticketctl.client import Client
from ticketctl.link import UNIX_PREFIX
from ticketctl.output import (
    BUSY,
    CANNOT_CONNECT,
    DONE,
    INTERRUPTED,
    OUTCOME_UNKNOWN,
    REFUSED,
    USAGE,
    default_host,
    default_port,
    default_timezone,
    default_tls_ca,
    default_token_file,
)
from ticketctl.own import OwnCommand
from ticketctl.protocol import TIMEOUT_SECONDS
from ticketctl.render import summaries
from ticketctl.times import Zone
from ticketctl.tokens import read_token
from ticketd import __version__
from ticketd.wire import PORT
from ticketd.wire.address import check_host
from ticketd.wire.schema import Command, must_be, shown

Port = Annotated[int, Meta(ge=1, le=65_535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]

EXAMPLES = """\
examples:
  ticketctl                            a shell, with completion
  ticketctl list                       the events, and what is left of them
  ticketctl book jazz 2                buy two tickets of the event jazz
  ticketctl help hold                  what hold takes, and what it does
  ticketctl --json show jazz           the reply as JSON, for programs
  ticketctl --quiet <sales.txt         a script with a command in each line
  ticketctl --wait 30 -p 9000 ready    wait until ticketd has started"""
STATUSES = (
    f"exit status: {DONE} done, {REFUSED} refused, {USAGE} usage, {CANNOT_CONNECT} cannot connect,\n"
    f"{OUTCOME_UNKNOWN} the outcome of a write is unknown, {BUSY} busy, {INTERRUPTED} Ctrl-C"
)


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the options. What it does not know are the words of a command."""
    parser = argparse.ArgumentParser(
        prog="ticketctl",
        usage="ticketctl [options] [command]",
        description="Talks to ticketd. Without a command: a shell on a terminal, else a script\n"
        "from standard input with a command in each line.",
        epilog=f"{EXAMPLES}\n\n{STATUSES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-H", "--host", help="where ticketd listens, or unix:PATH (TICKETD_HOST, or 127.0.0.1)")
    parser.add_argument("-p", "--port", help=f"its port (TICKETD_PORT, or {PORT})")
    parser.add_argument("--tls", action="store_true", help="connect with TLS, and check the certificate and the host")
    parser.add_argument("--tls-ca", metavar="FILE", help="trust these certificates (TICKETD_TLS_CA); implies --tls")
    parser.add_argument("--token-file", metavar="FILE", help="a file with your token (TICKETD_TOKEN_FILE)")
    parser.add_argument("--plain-token", action="store_true", help="send the token also where others can read it")
    parser.add_argument("--timeout", metavar="SECONDS", help=f"how long to wait for a reply ({TIMEOUT_SECONDS:g})")
    parser.add_argument("--wait", metavar="SECONDS", help="first wait until ticketd answers, for at most so long")
    parser.add_argument("--timezone", metavar="ZONE", help="of times, such as Europe/Berlin (TICKETD_TIMEZONE, or TZ)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, errors included")
    parser.add_argument("-q", "--quiet", action="store_true", help="show errors only")
    parser.add_argument("--bail", action="store_true", help="end a script at its first failure")
    parser.add_argument("-h", "--help", action="store_true", help="show this, or with a command its help")
    parser.add_argument(
        "-V", "--version", action="version", version=f"ticketctl {__version__}", help="show the version"
    )
    return parser


def help_text(parser: argparse.ArgumentParser, commands: Mapping[str, Command | OwnCommand]) -> str:
    """Return the help, with a list of these commands, in the width of the terminal."""
    columns = shutil.get_terminal_size().columns
    lines = summaries([(name, command.summary) for name, command in commands.items()], columns, 2)
    listed = "\n".join(["commands, which help COMMAND explains:", *lines])
    return parser.format_help().replace("\noptions:\n", f"\n{listed}\n\noptions:\n")


def client_of(options: argparse.Namespace, parser: argparse.ArgumentParser, seconds_max: float | None = None) -> Client:
    """Return the client for these options, which waits for no reply longer than ``seconds_max``; or exit with USAGE."""
    host = _host(options, parser)
    port_source = "--port" if options.port else "TICKETD_PORT"
    port: int = _number(port_source, options.port or default_port(), str, Port, parser)
    timeout = seconds_of(options.timeout, "--timeout", parser) or TIMEOUT_SECONDS
    timeout = min(timeout, seconds_max or timeout)
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
            token = read_token(token_file, allow_plaintext=options.plain_token)
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


def seconds_of(given: str | None, name: str, parser: argparse.ArgumentParser) -> float | None:
    """Return a time that was given in seconds, or None; or exit with USAGE."""
    if given is None:
        return None
    seconds: float = _number(name, given, float, Seconds, parser)
    return seconds


def repeated(options: argparse.Namespace) -> list[str]:
    """Return the options that say how to connect, as they were given."""
    given = [f"--{name}" for name in ("tls", "plain-token") if getattr(options, name.replace("-", "_"))]
    for name in ("tls-ca", "token-file"):
        if value := getattr(options, name.replace("-", "_")):
            given += [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
    return given


def zone_of(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Zone:
    """Return the zone for these options, or exit with USAGE."""
    try:
        return Zone(options.timezone or default_timezone())
    except ValueError as error:
        parser.error(str(error))


def _host(options: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    host: str = options.host or default_host()
    source = "--host" if options.host else "TICKETD_HOST"
    if not host.isprintable():
        parser.error(f"{source} must be a name or an address, not {shown(host)}")
    if host.startswith(UNIX_PREFIX):
        return host
    try:
        check_host(source, host)
    except ValueError as error:
        parser.error(str(error))
    return host


def _number(name: str, word: str, read: Callable[[str], object], bounds: Any, parser: argparse.ArgumentParser) -> Any:
    try:
        return msgspec.convert(read(word), bounds, strict=False)
    except (ValueError, msgspec.ValidationError):
        parser.error(f"{name} must be {must_be(bounds)}, not {shown(word)}")
