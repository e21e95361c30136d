"""Which cluster of PostgreSQL a connection leads to, and whether the ledger in it is the newest that there is.

A cluster has a system identifier, which a physical copy shares, and a timeline, which is counted up whenever a standby
is promoted (https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES). Of two primaries with
the same identifier, the one with the lower timeline is the one that was left behind. What is sold on it would be lost.
The ledger records both, so that a daemon that starts knows what others have seen.
"""

import logging
from typing import NamedTuple

import asyncpg

from ticketd.ledger.base import LedgerUnavailableError
from ticketd.ledger.marks import MARK_COLUMNS, Mark
from ticketd.ledger.postgres.schema import SCHEMA

log = logging.getLogger(__name__)

# The timeline is that of the log that is being written now, since the last checkpoint still has the old one after a
# promotion. On a standby it is null.
CLUSTER = """
(SELECT system_identifier FROM pg_control_system()) AS system, CASE WHEN NOT pg_is_in_recovery()
    THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END AS timeline
"""
_READ = f"SELECT system_identifier, timeline, {MARK_COLUMNS} FROM {SCHEMA}.ledger"
_RECORD = f"""
UPDATE {SCHEMA}.ledger SET system_identifier = $1, timeline = $2
WHERE system_identifier IS DISTINCT FROM $1 OR timeline < $2
"""


class Cluster(NamedTuple):
    """The system identifier of a cluster, and the timeline of a primary of it."""

    system: int
    timeline: int

    def __str__(self) -> str:
        """In words."""
        return f"timeline {self.timeline} of the system {self.system}"


async def check_ledger(connection: asyncpg.Connection, cluster: Cluster, name: str, *, starting: bool) -> Mark:
    """Check that the ledger in ``cluster`` is the newest, record there that it is in this cluster, and return its mark.

    ``name`` is the name of the database in messages. Raises LedgerUnavailableError if the ledger was sold from on a
    newer timeline, or in another system; a daemon that is ``starting`` accepts another system, as after a restore.
    """
    [(system, timeline, *mark)] = await connection.fetch(_READ)
    recorded = cluster if system is None else Cluster(system, timeline)
    if recorded.system == cluster.system and recorded.timeline > cluster.timeline:
        raise left_behind(name, cluster, f"its ledger was last sold from on {recorded}")
    if recorded.system != cluster.system:
        if not starting:
            raise other_system(name, cluster, f"its ledger is from {recorded}")
        log.warning("the database %s is on %s, and its ledger is from %s: it was restored", name, cluster, recorded)
    if system is None or recorded != cluster:
        async with connection.transaction():
            # It does not wait for a standby, which may be away. If it is lost, the next primary records it again.
            await connection.execute("SET LOCAL synchronous_commit = local")
            await connection.execute(_RECORD, *cluster)
    return Mark(*mark)


def left_behind(name: str, cluster: Cluster, newer: str) -> LedgerUnavailableError:
    """Return the error about a primary that is not the newest. ``newer`` says why that is known."""
    return LedgerUnavailableError(
        f"the database {name} is an old primary, on {cluster}, and {newer}; what is sold on it would be lost. Stop it,"
        " and make it a standby of the newest primary (pg_rewind or pg_basebackup)"
    )


def other_system(name: str, cluster: Cluster, other: str) -> LedgerUnavailableError:
    """Return the error about a cluster that is not of the same system as another one, which ``other`` names."""
    return LedgerUnavailableError(
        f"the database {name} is on {cluster}, and {other}; if it was restored from a backup, stop the other one and"
        " restart all daemons"
    )
