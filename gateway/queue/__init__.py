"""Administration of the queue over REST: browsing, changes, and tasks that go on after the request."""
