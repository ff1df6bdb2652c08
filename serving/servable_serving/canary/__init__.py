"""Canary releases: rules, traffic meter, trial, report."""
