"""A stand-in for the original project's package `models`, written from what it does; tests put its root on the path."""
