"""Networks, recipes, optimizers, precision."""
