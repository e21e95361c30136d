"""The wire contract: everything a client needs to talk to ticketd. Pure: no I/O, no clock, no randomness."""

PORT = 8080
