"""`servable compare`: simpler methods beside the network."""
