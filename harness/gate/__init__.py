"""The regression gate: a baseline of counts and times, and whether this tree still keeps it."""
