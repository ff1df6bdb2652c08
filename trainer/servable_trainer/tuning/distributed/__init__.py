"""A search by a chief and workers."""
