"""Writes log lines to stderr in a thread of its own, so that the daemon never waits for the reader of stderr.

A message of several lines becomes as many log lines, each with its time and level: so many are logged by one record.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from msgspec import json

LINES_WAITING_MAX = 50_000
CLOSE_SECONDS_MAX = 1.0
# A thread that wakes up takes the interpreter's lock from the loop. So lines are written together, 50 times a second.
PAUSE_SECONDS = 0.02

_STDERR = 2


class TextFormatter(logging.Formatter):
    """Lines for people: time, level and message. A traceback follows as it is."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Put time and level before each line of the message."""
        text = super().formatMessage(record)
        if "\n" in record.message:
            text = text.replace("\n", "\n" + text.partition(record.message)[0])
        return text

    def plain(self, line: str) -> str:
        """Return a line that is not of a record."""
        return line

    def reason(self, reason: str) -> str:
        """Return the line that says why the daemon ends."""
        return f"ticketd: {reason}"


class JsonFormatter(logging.Formatter):
    """An object a line, for programs: ``time``, ``level`` and ``message``, and ``traceback`` if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        before = b'{"time":"%s.%03dZ","level":"%s","message":' % (
            self.formatTime(record, "%Y-%m-%dT%H:%M:%S").encode(),
            record.msecs,
            record.levelname.encode(),
        )
        after = b"}"
        if record.exc_info:
            after = b',"traceback":%s}' % _encoded(self.formatException(record.exc_info))
        lines = record.getMessage().split("\n")
        return b"\n".join([before + _encoded(line) + after for line in lines]).decode()

    def plain(self, line: str) -> str:
        """Return a line that is not of a record."""
        return self._line(logging.INFO, line)

    def reason(self, reason: str) -> str:
        """Return the line that says why the daemon ends."""
        return self._line(logging.ERROR, reason)

    def _line(self, level: int, message: str) -> str:
        return self.format(logging.LogRecord("ticketd", level, "", 0, message, None, None))


FORMATTERS: dict[str, Callable[[], TextFormatter | JsonFormatter]] = {"text": TextFormatter, "json": JsonFormatter}


class _Lines(queue.Queue[str | None]):
    """Texts of one or more lines. Their lines are counted, not the texts."""

    _waiting = 0

    def _qsize(self) -> int:
        return self._waiting

    def _put(self, text: str | None) -> None:
        self._waiting += _lines_of(text)
        super()._put(text)

    def _get(self) -> str | None:
        text: str | None = super()._get()
        self._waiting -= _lines_of(text)
        return text


class StderrHandler(logging.Handler):
    """Queues lines for the thread. While LINES_WAITING_MAX lines wait, more are dropped, and the log says how many."""

    def __init__(self, form: str = "text") -> None:
        super().__init__()
        self._formatter = FORMATTERS[form]()
        self.setFormatter(self._formatter)
        self._lines = _Lines(LINES_WAITING_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and queue it."""
        self._queue(self.format(record))

    def write_line(self, line: str) -> None:
        """Queue a line, as text without time and level."""
        self._queue(self._formatter.plain(line))

    def write_reason(self, reason: str) -> None:
        """Queue why the daemon ends."""
        self._queue(self._formatter.reason(reason))

    def _queue(self, text: str) -> None:
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += _lines_of(text)

    def close(self) -> None:
        """Wait for the thread to write what is queued, but not long (CLOSE_SECONDS_MAX). Called by logging at exit."""
        try:
            self._lines.put(None, timeout=CLOSE_SECONDS_MAX)
            self._thread.join(CLOSE_SECONDS_MAX)
        except queue.Full:
            pass
        super().close()

    def _write(self) -> None:
        ended = False
        while not ended:
            texts = [self._lines.get()]
            with suppress(queue.Empty):
                while True:
                    texts.append(self._lines.get_nowait())
            ended = None in texts
            dropped, self._dropped = self._dropped, 0
            if dropped:
                texts.append(self._formatter.plain(f"({dropped} log lines were dropped: stderr was not read in time)"))
            data = "".join(f"{text}\n" for text in texts if text is not None).encode(errors="backslashreplace")
            # If stderr is closed or its disk is full, the log is lost, and the sale goes on.
            with suppress(OSError):
                while data:
                    data = data[os.write(_STDERR, data) :]
            if not ended:
                time.sleep(PAUSE_SECONDS)


def _encoded(text: str) -> bytes:
    # A path may have bytes that are no text.
    return json.encode(text.encode(errors="backslashreplace").decode())


def _lines_of(text: str | None) -> int:
    return 1 if text is None else text.count("\n") + 1
