"""`servable train`: runs and checkpoints."""
