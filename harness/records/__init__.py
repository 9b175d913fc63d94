"""Records of runs: their form, where they are stored, and how they are selected."""
