"""Ledgers, which keep the sales: the contract in ``base``, a package for each database, ``move`` and ``check``."""
