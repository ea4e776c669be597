"""The queue's gRPC services: requests in, the engine's answers out, batches passed through as bytes."""
