"""From files to the queue: sources, pacing, and a stream that stores every row once."""
