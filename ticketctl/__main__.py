"""``python -m ticketctl``."""

from ticketctl.cli import main

main()
