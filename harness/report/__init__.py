"""What people look at: tables, comparisons, pivots, figures. It reads records alone."""
