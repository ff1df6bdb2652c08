"""`servable compare`: networks against classic methods."""
