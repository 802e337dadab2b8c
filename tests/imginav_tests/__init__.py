"""What tests share that has to be imported by processes that they start."""
