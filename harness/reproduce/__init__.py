"""The claims of a paper: what is run for them, and what came of it."""
