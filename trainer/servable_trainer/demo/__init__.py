"""`servable demo`."""
