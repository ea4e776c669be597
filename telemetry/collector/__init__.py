"""From the queue to the store, and from the store to whoever asks."""
