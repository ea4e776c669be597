"""One thin file a command: flags become settings, and a room does the work."""
