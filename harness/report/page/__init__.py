"""The page: one self-contained HTML file of any set of records."""
