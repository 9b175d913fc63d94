"""What a run is asked to do: typed configuration, its composition from conf/, and its checks."""
