"""Everything that talks to party processes: the group of a run, its control channel, its workers."""
