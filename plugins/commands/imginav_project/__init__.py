"""Begins a project: a working folder with its phases, or a plugin package."""
