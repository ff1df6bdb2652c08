"""Gates: the checks that a candidate must pass."""
