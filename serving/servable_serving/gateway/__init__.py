"""The gateway in front of the servers."""
