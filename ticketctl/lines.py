"""Runs the commands that stand in lines: those of a script, and what is typed in the shell.

A line has words, or one JSON object as programs send it. What follows a ``#`` at the beginning of a word is a comment.
"""

import re
import sys
from collections.abc import Iterable

from ticketctl.client import Client
from ticketctl.commands import Leave, run, run_request
from ticketctl.output import CANNOT_CONNECT, DONE, INTERRUPTED, USAGE, Output, write_text
from ticketd.errors import TicketError
from ticketd.wire import codec, words
from ticketd.wire.replies import error_reply

_BYTE_ORDER_MARK = "\ufeff"
# What is no blank and begins no comment: quoted, escaped, or as it is.
_PLAIN = r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s#'"\\])"""
_BEFORE_COMMENT = re.compile(rf"(?:\s++|{_PLAIN}(?:{_PLAIN}|#)*+)*+", re.DOTALL)


def run_script(lines: Iterable[str], client: Client, output: Output, *, bail: bool) -> int:
    """Run the command in each line. Return the status of the first that failed; ``bail`` stops there.

    ``exit`` and Ctrl-C end the script, and so does a daemon that is gone: then it says with which line to resume.
    """
    first_failure = DONE
    for number, line in enumerate(lines, 1):
        output.line = number
        try:
            status = run_line(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line, client, output)
        except Leave:
            break
        first_failure = first_failure or status
        if status == CANNOT_CONNECT:
            again = f"resume with line {number}, as in: tail -n +{number} FILE | ticketctl"
            write_text(f"ticketctl: the script ends here, since the daemon is gone; {again}", sys.stderr)
        if status in (CANNOT_CONNECT, INTERRUPTED) or (status and bail):
            break
    return first_failure


def run_line(line: str, client: Client, output: Output) -> int:
    """Run the command in a line, if it has one, and return the exit status. Raises what ``run`` does."""
    try:
        text = without_comment(line).strip()
        if text.startswith("{"):
            # Bytes that are no UTF-8 are refused there.
            return run_request(codec.decode(text.encode(errors="surrogateescape")), client, output)
        command = words.split(text)
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    return run(command, client, output) if command else DONE


def without_comment(line: str) -> str:
    """Return a line without the comment at its end. A quote that has no end is left as it is."""
    end = _BEFORE_COMMENT.match(line).end()  # type: ignore[union-attr]
    return line[:end] if line[end : end + 1] == "#" else line
