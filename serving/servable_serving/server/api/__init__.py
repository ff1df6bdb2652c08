"""Predict, Classify, Regress and MultiInference."""
