"""Any program's parties as a system: how they are started and what they answer stands in a file."""
