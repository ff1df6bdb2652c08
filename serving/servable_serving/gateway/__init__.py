"""The gateway: nginx in front of the servers, its configuration and its metrics."""
