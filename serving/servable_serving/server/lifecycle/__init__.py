"""Models, versions and their states."""
