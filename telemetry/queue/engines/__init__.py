"""Where a queue keeps its messages. `engine.py` is the seam that the server talks to."""
