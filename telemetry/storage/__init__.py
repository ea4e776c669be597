"""Where samples are kept: JSONL a GPU, the newest of it in memory, and a checkpoint that vouches for it."""
