"""What every process needs: settings, logging, metrics, HTTP, signals, and the lock on its data directory."""
