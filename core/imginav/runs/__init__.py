"""One experiment, from a resolved manifest to what it leaves behind."""
