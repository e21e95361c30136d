"""Owns the parts of SQL that several statements of the ledger in PostgreSQL share."""


def _milliseconds(time: str) -> str:
    # Rounded down, so that nothing runs out too early.
    return f"floor(extract(epoch FROM {time}) * 1000)::bigint"


def columns(table: str, columns: str) -> str:
    """Return the names of columns, each with that of its table."""
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


# The times when the statement began, and now, in milliseconds since 1970.
BEGAN = _milliseconds("statement_timestamp()")
NOW = _milliseconds("clock_timestamp()")
