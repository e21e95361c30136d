"""The closed list of error codes, and the one exception that carries them.

Anything else that is raised is a bug: it is logged with its traceback and answered as ``internal``.
"""

from typing import Literal

Code = Literal[
    "bad_frame",
    "frame_too_long",
    "unknown_command",
    "bad_request",
    "event_not_found",
    "booking_not_found",
    "ticket_not_found",
    "not_found",
    "event_exists",
    "too_many_events",
    "event_in_use",
    "sold_out",
    "not_on_sale",
    "buyer_limit",
    "waiting_list_full",
    "booking_conflict",
    "hold_expired",
    "already_confirmed",
    "already_released",
    "already_cancelled",
    "already_redeemed",
    "already_reissued",
    "not_redeemed",
    "wrong_event",
    "capacity_below_sold",
    "backup_exists",
    "backup_failed",
    "busy",
    "too_many_connections",
    "idle_timeout",
    "shutting_down",
    "outcome_unknown",
    "storage_full",
    "unauthorized",
    "internal",
]


class TicketError(Exception):
    """A refusal: a code from the closed list, and a message that says what was wrong and what to do next.

    ``retry_after`` is in seconds, or None if trying again later makes no difference. ``unasked`` says that it answers
    no request: the connection ends because of something else. ``tag`` is that of the request that it is about.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        retry_after: float | None = None,
        unasked: bool = False,
        tag: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.retry_after = retry_after
        self.unasked = unasked
        self.tag = tag
