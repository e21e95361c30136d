"""ticketd sells a finite number of tickets per event to a crowd, exactly once each."""

__version__ = "0.1.0"
