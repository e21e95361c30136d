"""Where the ledger is kept: the contract in ``base``, and one module for each kind of database."""
