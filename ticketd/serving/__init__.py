"""Serving: the listener, the connections, and the sessions on them."""
