"""The client's logic, free of I/O: retries, balancing, readiness, streams."""
