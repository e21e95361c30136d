"""The embedded ledger: one SQLite file beside the daemon."""
