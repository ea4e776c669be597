"""One thin file a command: flags become settings, and a room does the work."""

from telemetry.runtime.allocators import give_back_soon

# Here, since every command comes by before it imports anything that allocates.
give_back_soon()
