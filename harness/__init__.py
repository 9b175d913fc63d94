"""What every run shares: command line, configuration, parties, transport, records, reports."""
