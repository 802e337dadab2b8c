"""Looking at phases and runs: plan, explain, watch, plugins, schema."""
