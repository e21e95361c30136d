"""The rules: what each request reads, decides and changes. Pure: no I/O, no clock. The same for every ledger."""
