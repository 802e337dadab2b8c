"""Phases in order: the experiments of a sweep, their winners, the chain."""
