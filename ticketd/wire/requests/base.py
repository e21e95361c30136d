"""What all requests have in common: the traits that both sides must know about a command. Pure."""

from typing import ClassVar

from msgspec import UNSET, Struct, UnsetType

from ticketd.wire.replies import Reply
from ticketd.wire.requests import fields
from ticketd.wire.roles import Role


class Request(Struct, tag_field="cmd", forbid_unknown_fields=True, gc=False, kw_only=True):
    """The base of all requests. Each subclass is a command, and the tag of its Struct is the name of the command.

    Any request in JSON may have a ``tag``, which its replies repeat. It is of use to the client only: nothing that the
    daemon does depends on it.

    A ``__post_init__`` checks what types cannot express; msgspec turns its ValueError into a ValidationError.
    """

    # It needs one of these roles. ``ledger_roles`` are those that it needs if memory cannot answer it, if they differ.
    roles: ClassVar[frozenset[Role]]
    ledger_roles: ClassVar[frozenset[Role] | None] = None
    # The kinds of reply that answer it. Besides them, any command may be answered by an error.
    replies: ClassVar[tuple[type[Reply], ...]]
    # Whether it may change the ledger. If so, and no reply comes, the outcome is unknown.
    writes: ClassVar[bool] = False
    # Whether it is done only once however often it is sent with the same ids. If not, only a person may send it again.
    repeatable: ClassVar[bool] = True
    # The field to ``show`` to learn the outcome, if sending it again would not show it.
    outcome_shown_by: ClassVar[str | None] = None
    # Whether it is answered by a stream of replies, until the client sends another line.
    streams: ClassVar[bool] = False
    # The field with the id of what it creates. The id is minted if the field is left out.
    minted: ClassVar[str | None] = None

    tag: fields.Tag | UnsetType = UNSET

    @property
    def expects(self) -> tuple[type[Reply], ...]:
        """The kinds of reply that can answer it as it is, with the fields that it has."""
        return self.replies
