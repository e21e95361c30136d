"""ticketd sells a limited number of tickets per event to a crowd, each ticket exactly once."""

__version__ = "0.1.0"
