"""Owns what commits and polls showed about the ledger: whether it is full, unreachable or hangs, and when to retry.

Logs when that changes. Times are in seconds of the loop's clock, and passed in.
"""

import logging
import math

from ticketd.commits.clients import BUSY, HANGS, NOT_READY, STORAGE_FULL, UNREACHABLE
from ticketd.config import RETRY_AFTER_SECONDS
from ticketd.wire.replies import ErrorReply

log = logging.getLogger(__name__)

# If the ledger lets a commit, or a poll that is due, wait for longer than this, the daemon is not ready.
ANSWER_SECONDS_MAX = 2.0


class Health:
    """Whether the ledger takes commits now."""

    def __init__(self) -> None:
        # When to try the next commit after the storage was full; None if it was not.
        self._full_until: float | None = None
        # Whether the committer waits before it tries an unreachable ledger again.
        self.backing_off = False
        # Whether a commit has not ended in time. Until it does, no request waits for due holds to be ended first.
        self.commit_hangs = False
        # Until when no request waits for due holds to be ended first, since no commit is possible.
        self._blocked_until = 0.0
        # How many tries in a row could not reach the ledger, when the last one was, and the reason that was logged.
        self._unreachable = 0
        self._unreachable_at = -math.inf
        self._logged = ""
        # Why the last poll could not reach the ledger; empty if it could.
        self._poll_failure = ""
        # When each commit in flight began, the oldest first, and when the last one succeeded.
        self._began: dict[object, float] = {}
        self._committed_at = -math.inf
        # Until when a ledger that is polled must have answered again.
        self._answer_due = math.inf

    @property
    def in_flight(self) -> int:
        """How many commits have begun and not ended."""
        return len(self._began)

    def is_full(self, now: float) -> bool:
        """Whether the storage was full, and it is too early to try again."""
        return self._full_until is not None and now < self._full_until

    def can_end_holds(self, now: float) -> bool:
        """Whether due holds can be ended soon, so that a request may wait for that."""
        return not self.commit_hangs and now >= self._blocked_until

    def why_not_ready(self, now: float) -> ErrorReply | None:
        """Return the error that says why no commit is possible now, or None if one is, or may be tried."""
        if self.is_full(now):
            return STORAGE_FULL
        # A single failure may be one broken connection, and the next one works.
        if self._unreachable > 1 and now - self._unreachable_at < RETRY_AFTER_SECONDS:
            reason = self._logged
        elif now > self._answer_due:
            reason = self._poll_failure or "the ledger does not answer"
        elif self._hangs(now):
            reason = f"the ledger has not answered a commit for {ANSWER_SECONDS_MAX:g} s"
        else:
            return None
        return ErrorReply("busy", f"{NOT_READY}: {reason}", retry_after=RETRY_AFTER_SECONDS)

    def why_busy(self, now: float) -> str:
        """Return the message to requests that have waited too long for a commit."""
        if self._unreachable:
            return UNREACHABLE
        return HANGS if self._hangs(now) or now > self._answer_due else BUSY

    def note_begin(self, commit: object, now: float) -> None:
        """A commit has begun."""
        self._began[commit] = now

    def note_end(self, commit: object) -> None:
        """A commit has ended, whatever its outcome."""
        del self._began[commit]

    def note_success(self, now: float, *, changed: bool) -> None:
        """A batch was decided, and committed if it changed anything."""
        if self._unreachable:
            if self._unreachable > 1:
                log.info("the ledger is back")
            self._unreachable, self._logged = 0, ""
        if changed:
            self._committed_at = now
            self._answer_due = max(self._answer_due, now + ANSWER_SECONDS_MAX)
            if self._full_until is not None:
                log.info("there is room again")
                self._full_until = None

    def note_full(self, error: Exception, now: float) -> None:
        """The storage was too full for a commit."""
        if self._full_until is None:
            log.warning("%s; refusing every change until there is room", error)
        self._full_until = now + RETRY_AFTER_SECONDS

    def note_blocked(self, now: float) -> None:
        """No commit is possible for RETRY_AFTER_SECONDS."""
        self._blocked_until = now + RETRY_AFTER_SECONDS

    def note_unreachable(self, error: Exception, now: float) -> None:
        """The ledger could not be reached."""
        self._unreachable, self._unreachable_at = self._unreachable + 1, now
        if self._unreachable > 1 and self._logged != str(error):
            # The first failure is not logged: it may be one broken connection, and the next one works.
            self._logged = str(error)
            log.warning("requests wait: %s", error)
        self.note_blocked(now)
        self.backing_off = True

    def note_poll(self, next_at: float) -> None:
        """A poll succeeded. To the next one, at ``next_at``, the ledger must answer within ANSWER_SECONDS_MAX."""
        self._poll_failure, self._answer_due = "", next_at + ANSWER_SECONDS_MAX

    def note_failed_poll(self, error: Exception) -> None:
        """A poll could not reach the ledger."""
        self._poll_failure = str(error)

    def _hangs(self, now: float) -> bool:
        """Whether for more than ANSWER_SECONDS_MAX a commit has waited, and none has succeeded."""
        oldest = next(iter(self._began.values()), math.inf)
        return now - max(oldest, self._committed_at) > ANSWER_SECONDS_MAX
