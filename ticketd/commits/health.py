"""Owns what the last commits showed about the ledger: whether it is full, unreachable or hangs, and when to retry.

Logs each change of that. Times are in seconds of the loop's clock, and passed in.
"""

import logging

from ticketd.config import RETRY_AFTER_SECONDS

log = logging.getLogger(__name__)


class Health:
    """Whether the ledger takes commits now."""

    def __init__(self) -> None:
        # When to try the next commit after the storage was full; None if it was not.
        self._full_until: float | None = None
        # Whether the committer waits before it tries an unreachable ledger again.
        self.backing_off = False
        # Whether a commit takes so long that requests must not wait for it to end holds.
        self.commit_hangs = False
        # Until then no request waits for a commit that ends holds, since none is possible.
        self._blocked_until = 0.0
        # How many tries in a row could not reach the ledger, and the reason that was logged last.
        self._unreachable = 0
        self._logged = ""

    @property
    def unreachable(self) -> bool:
        """Whether the last try could not reach the ledger."""
        return self._unreachable > 0

    def is_full(self, now: float) -> bool:
        """Whether the storage was full, and it is too early to try again."""
        return self._full_until is not None and now < self._full_until

    def can_end_holds(self, now: float) -> bool:
        """Whether a commit that ends holds is possible soon."""
        return not self.commit_hangs and now >= self._blocked_until

    def note_success(self, *, changed: bool) -> None:
        """A batch was decided, and committed if it changed anything."""
        if self._unreachable:
            if self._unreachable > 1:
                log.info("the ledger is back")
            self._unreachable, self._logged = 0, ""
        if self._full_until is not None and changed:
            log.info("there is room again")
            self._full_until = None

    def note_full(self, error: Exception, now: float) -> None:
        """The storage was too full for a commit."""
        if self._full_until is None:
            log.warning("%s; refusing every change until there is room", error)
        self._full_until = now + RETRY_AFTER_SECONDS

    def note_blocked(self, now: float) -> None:
        """No commit is possible for a while."""
        self._blocked_until = now + RETRY_AFTER_SECONDS

    def note_unreachable(self, error: Exception, now: float) -> None:
        """The ledger could not be reached."""
        self._unreachable += 1
        if self._unreachable > 1 and self._logged != str(error):
            # The first failure is not logged: it may be one broken connection, and the next one works.
            self._logged = str(error)
            log.warning("requests wait: %s", error)
        self.note_blocked(now)
        self.backing_off = True
