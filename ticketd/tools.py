"""The command line of ``ticketd move``, ``check``, ``migrate`` and ``access``: arguments, output, exit statuses."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, get_args

from ticketd import access_file
from ticketd.access_file import AccessFileError
from ticketd.config import STATUS_CANNOT_OPEN, STATUS_ENDED, STATUS_USAGE
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.check import check
from ticketd.ledger.move import Report, move
from ticketd.ledger.offline import missing_module
from ticketd.ledger.postgres.url import is_database_url, public_name
from ticketd.wire.roles import Role
from ticketd.wire.schema import shown
from ticketd.wire.text import did_you_mean

_LEDGER = "a path, or postgresql://user@host/database"


def main(arguments: list[str], loop_factory: Any) -> NoReturn:
    """Run the command that is the first of the arguments, and exit with its status."""
    command, *values = parse(arguments)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            status = runner.run(COMMANDS[command](*values))
        sys.stdout.flush()
    except CannotOpenError as error:
        print(f"ticketd: {error}", file=sys.stderr)
        status = STATUS_CANNOT_OPEN
    except AccessFileError as error:
        print(f"ticketd: {error}", file=sys.stderr)
        status = STATUS_USAGE
    except KeyboardInterrupt:
        again = "" if command == "check" else "; the same command finishes it"
        print(f"ticketd: interrupted{again}", file=sys.stderr)
        status = 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of stdout is gone. Without this, Python would report that again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.exit(status)


def parse(arguments: list[str]) -> list[Any]:
    """Return the command and its arguments, or print why they are not valid and exit with STATUS_USAGE."""
    parser = argparse.ArgumentParser(prog="ticketd", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    moving = commands.add_parser(
        "move",
        help="move a whole sale from one ledger to another",
        description=f"Moves a whole sale from one ledger to another; each is {_LEDGER}. Stop all daemons of the source"
        " first. The target must be empty, or not exist yet. Afterwards the source refuses to sell. If it is cut"
        " short, the same command finishes it.",
        epilog=f"exit status: {STATUS_ENDED} moved, {STATUS_USAGE} bad arguments, {STATUS_CANNOT_OPEN} refused or"
        " failed",
        allow_abbrev=False,
    )
    moving.add_argument("source", metavar="SOURCE", type=_ledger, help="where the sale is")
    moving.add_argument("target", metavar="TARGET", type=_ledger, help="where it goes")
    checking = commands.add_parser(
        "check",
        help="verify a ledger",
        description=f"Verifies a ledger, which is {_LEDGER}; says what it saw, and changes nothing. In PostgreSQL,"
        " daemons may sell meanwhile.",
        epilog=f"exit status: {STATUS_ENDED} whole, {STATUS_USAGE} bad arguments, {STATUS_CANNOT_OPEN} not whole, or it"
        " could not be checked",
        allow_abbrev=False,
    )
    checking.add_argument("ledger", metavar="LEDGER", type=_ledger, help="what is verified")
    migrating = commands.add_parser(
        "migrate",
        help="create or upgrade the tables in a PostgreSQL",
        description="Creates the tables of a ledger in PostgreSQL, or upgrades those of an older ticketd. Run it as the"
        " owner of the database; then the daemons can have a role with fewer rights.",
        epilog=f"exit status: {STATUS_ENDED} the tables are up to date, {STATUS_USAGE} bad arguments,"
        f" {STATUS_CANNOT_OPEN} refused or failed",
        allow_abbrev=False,
    )
    migrating.add_argument("url", metavar="URL", type=_database, help="postgresql://owner@host/database")
    migrating.add_argument("--grant", metavar="ROLE", help="the role of the daemons: it may sell, and no more")
    access = commands.add_parser(
        "access",
        help="give out tokens, and take them back",
        description="Changes the access file: who has a token, and what they may do. The file keeps hashes only, so a"
        " secret is shown once. A daemon reads the file at its start, and again on SIGHUP.",
        epilog=f"exit status: {STATUS_ENDED} done, {STATUS_USAGE} bad arguments, or the file cannot be used",
        allow_abbrev=False,
    )
    access.add_argument(
        "what", nargs="?", metavar="add|list|remove", help="add or remove a token, or list all who have a role"
    )
    access.add_argument("name", nargs="?", metavar="NAME", help="what the token is called, in logs too")
    roles = get_args(Role)
    access.add_argument(
        "--role", metavar="ROLE", choices=roles, help=f"what it may do, for add: {', '.join(roles[:-1])} or {roles[-1]}"
    )
    access.add_argument("--access", metavar="FILE", help="the access file (TICKETD_ACCESS, or else access.json)")
    for word in takewhile("--".__ne__, arguments[1:]):
        _check_flag(word, commands.choices[arguments[0]])
    values = parser.parse_args(arguments)
    if values.command == "access":
        if values.what not in ("add", "list", "remove"):
            access.error(
                f"say add, list or remove, not {shown(values.what)}" if values.what else "say add, list or remove"
            )
        if values.access is None:
            values.access = os.environ.get("TICKETD_ACCESS", "access.json")
        if not values.access:
            access.error("TICKETD_ACCESS or --access is empty; leave it out for access.json")
        if (values.what == "list") != (values.name is None):
            access.error("list takes no NAME" if values.name else f"{values.what} needs a NAME")
        if values.name is not None and not access_file.is_name(values.name):
            reserved = ", ".join(sorted(access_file.RESERVED))
            access.error(f"NAME must be 1 to {access_file.NAME_CHARS_MAX} of A-Z a-z 0-9 . _ -, and not {reserved}")
        if (values.what == "add") != (values.role is not None):
            access.error("add needs --role" if values.what == "add" else f"{values.what} takes no --role")
    return list(vars(values).values())


def _check_flag(word: str, command: argparse.ArgumentParser) -> None:
    """Exit with STATUS_USAGE if a word looks like a flag, and is none. It must not lack something else first."""
    flag, flags = word.partition("=")[0], command._option_string_actions
    if flag.startswith("-") and flag not in flags:
        hint = did_you_mean(flag, flags, f"see {command.prog} --help")
        command.error(f"there is no flag {shown(flag)}; {hint}")


def _ledger(text: str) -> str:
    if is_database_url(text):
        try:
            public_name(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"it {error}") from None
    elif "://" in text or not text:
        # The message leaves the text out: it may contain a password.
        raise argparse.ArgumentTypeError(f"it must be {_LEDGER}")
    return text


def _database(text: str) -> str:
    if not is_database_url(text):
        raise argparse.ArgumentTypeError("it must be postgresql://owner@host/database")
    return _ledger(text)


async def _move(source: str, target: str) -> int:
    with ExitStack() as stack:
        moved = await move(source, target, _progress(stack))
    counts = {"event": moved.events, "booking": moved.bookings, "ticket": moved.tickets}
    in_words = ", ".join(f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
    print(f"moved {in_words} from {moved.source} to {moved.target}")
    return STATUS_ENDED


async def _check(ledger: str) -> int:
    wrong, lacks = await check(ledger, print)
    if lacks and wrong == 1:
        raise CannotOpenError(
            f"{ledger} lacks {lacks:,} commit{'' if lacks == 1 else 's'}, and nothing else is wrong; put back newer"
            " files, or start ticketd once with --accept-losses"
        )
    if wrong:
        name = f"postgresql://{public_name(ledger)}" if is_database_url(ledger) else ledger
        raise CannotOpenError(f"{name} is not whole ({wrong:,} wrong); restore it from a backup")
    return STATUS_ENDED


async def _migrate(url: str, role: str | None) -> int:
    try:
        from ticketd.ledger.postgres.offline import migrate_tables
    except ModuleNotFoundError as error:
        raise missing_module(error) from None
    print(f"the tables of {await migrate_tables(url, role)} are up to date" + (f"; {role} may sell" if role else ""))
    return STATUS_ENDED


async def _access(what: str, name: str | None, role: Role | None, file: str) -> int:
    _change_access(what, name, role, file)
    return STATUS_ENDED


def _change_access(what: str, name: str | None, role: Role | None, file: str) -> None:
    path = Path(file)
    if what == "add" and name and role:
        is_new = not path.exists()
        print(access_file.add(path, name, role))
        if is_new:
            print(f"ticketd: created {file}; start ticketd with --access {file}", file=sys.stderr)
        print(
            f"ticketd: added {name} to {file}; this is the only time its secret is shown; send SIGHUP to a running"
            " daemon to make it valid",
            file=sys.stderr,
        )
    elif what == "remove" and name:
        access_file.remove(path, name)
        message = f"ticketd: removed {name} from {file}; a daemon that runs ends its connections on SIGHUP"
        print(message, file=sys.stderr)
    else:
        access = access_file.read(path, of_any_owner=True)
        for token in access.tokens:
            print(f"{token.name}\t{token.role}")
        for user, theirs in access.users.items():
            print(f"user:{user}\t{theirs}")
        if access.anonymous:
            print(f"anonymous\t{access.anonymous}")
        known = access_file.uids(access)
        for user in access.users:
            if user not in known:
                print(f"ticketd: this machine does not know the user {user}", file=sys.stderr)


COMMANDS: dict[str, Callable[..., Coroutine[Any, Any, int]]] = {
    "move": _move,
    "check": _check,
    "migrate": _migrate,
    "access": _access,
}


def _progress(stack: ExitStack) -> Report:
    """Return a Report that shows a progress bar on a terminal, until the stack is closed."""
    if not sys.stderr.isatty():
        return lambda what, done, total: None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task("opening", total=None)

    def report(what: str, done: int, total: int) -> None:
        progress.update(task, description=what)
        if total:
            progress.update(task, completed=done, total=total)

    return report
