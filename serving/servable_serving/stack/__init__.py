"""The stack of containers, and a server in the background if there is no Docker."""
