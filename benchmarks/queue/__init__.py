"""The queue next to its peers, through real processes, in one run."""
