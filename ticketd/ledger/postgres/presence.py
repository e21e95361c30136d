"""Owns the lock of a database: shared by the connections of all daemons, or exclusive to a ``ticketd move``.

It is an advisory lock of PostgreSQL, which ends with its connection. Every connection of a daemon takes it before it
reads anything else. So during a move no connection can sell, not even in a transaction that began before, and a daemon
that comes back from an interruption gets no connection. With the lock, a new connection reads the mark of the ledger,
which only a move changes.
"""

import asyncio

import asyncpg

from ticketd.ledger.base import CannotOpenError, LedgerUnavailableError

# "tick", and 1. PostgreSQL keeps keys of two numbers apart from those of one, such as in ``schema``.
_LOCK = (0x7469636B, 1)
# How long to try: the connection of a killed process ends only when the database notices.
WAIT_SECONDS_MAX = 1.0
ASK_AGAIN_SECONDS = 0.02

_LOCK_SHARED = "SELECT pg_try_advisory_lock_shared($1, $2)"
_LOCK_EXCLUSIVE = "SELECT pg_try_advisory_lock($1, $2)"
_UNLOCK = "SELECT pg_advisory_unlock_all()"
_PRESENT = """
SELECT count(*) AS count, string_agg(DISTINCT host(client_addr), ', ') AS hosts
FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = $1::int::oid AND objid = $2::int::oid AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def lock_shared(connection: asyncpg.Connection, name: str) -> None:
    """Share the database ``name`` with other daemons. Raises LedgerUnavailableError during a move."""
    if not await _try_lock(connection, _LOCK_SHARED):
        raise LedgerUnavailableError(f"the database {name} belongs to a ticketd move; wait until that has ended")


async def lock_exclusive(connection: asyncpg.Connection, name: str) -> None:
    """Take the database ``name`` for this connection only. Raises CannotOpenError if it is in use."""
    if not await _try_lock(connection, _LOCK_EXCLUSIVE):
        [(count, hosts)] = await connection.fetch(_PRESENT, *_LOCK)
        where = f" from {hosts}" if hosts else ""
        connections = "connection" if count == 1 else "connections"
        raise CannotOpenError(f"the database {name} is in use by ticketd ({count} {connections}{where}); stop it first")


async def unlock(connection: asyncpg.Connection) -> None:
    """Release the lock at once."""
    await connection.execute(_UNLOCK)


async def _try_lock(connection: asyncpg.Connection, statement: str) -> bool:
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
    # Try again instead of waiting for the lock: a waiting move would keep out all new connections of daemons.
    while not (locked := await connection.fetchval(statement, *_LOCK)):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(ASK_AGAIN_SECONDS)
    return bool(locked)
