"""Exit statuses of the command line."""

FAILED = 1
"""Something failed that is not the user's to fix, or one of several experiments did."""

USER_ERROR = 2
"""The user can fix it; the message says how."""

REQUEUE = 85
"""The run was stopped with its state saved; the same command resumes it, and job scripts requeue on this status."""

INTERRUPTED = 130
"""Ctrl-C where there is nothing to save."""
