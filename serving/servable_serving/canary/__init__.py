"""Canary releases: run, watch, report."""
