"""Where the parties live. One module for each runner; `make_runner` finds them by name."""
