"""Processes that train one run together, and what asks them to stop."""
