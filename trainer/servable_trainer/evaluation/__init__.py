"""`servable evaluate`: examination, robustness, report."""
