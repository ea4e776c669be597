"""The parts of the queue's client; ``telemetry.queue.client`` is what other rooms import."""
