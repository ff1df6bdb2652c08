"""Messages of the server's configuration files."""
