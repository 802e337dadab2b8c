"""imginav in Python and in notebooks: `imginav.train`, `evaluate`, `probe`, `open_run` and `list_runs`."""
