"""Commits: the queues, the committer, and what is updated after a commit: the catalogue, events.json and the log."""
