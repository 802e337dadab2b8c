"""The loop, and what it works with: objective, optimization, validation, device."""
