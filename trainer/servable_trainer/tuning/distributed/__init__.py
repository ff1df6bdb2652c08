"""Distributed search: a chief and workers."""
