"""Mirrored requests: asked of two versions, whose answers are compared."""
