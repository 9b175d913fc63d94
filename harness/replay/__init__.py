"""What a run would take on other networks: traces of its parties, and a simulation over them."""
