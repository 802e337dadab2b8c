"""Jobs on a cluster: submit, status, cancel, logs."""
