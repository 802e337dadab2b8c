"""From a phase's TOML files to one typed tree for each experiment."""
