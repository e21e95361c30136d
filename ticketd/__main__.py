"""``python -m ticketd``."""

from ticketd.cli import main

main()
