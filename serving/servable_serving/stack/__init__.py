"""The stack of containers, and a server in the background where there is no Docker."""
