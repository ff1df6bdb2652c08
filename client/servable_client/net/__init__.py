"""Server addresses, proxies and TLS."""
