"""The gate that loads a candidate in a subprocess and sends adversarial requests."""
