"""Where the parties live. One module for each runner; `registry` finds them by name."""
