"""Opened data sets and their batches."""
