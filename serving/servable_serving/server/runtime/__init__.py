"""Execution: loaded models and batching."""
