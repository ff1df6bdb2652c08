"""`servable tune`: the search."""
