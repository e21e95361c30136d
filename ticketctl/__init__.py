"""ticketctl is the client of ticketd made for people: one-shot commands, scripts and an interactive shell."""
