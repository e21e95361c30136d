"""The ledger in PostgreSQL, which many daemons may share. Requires asyncpg."""
