"""The message queue: rules (`core`), storage (`engines`), gRPC server and client."""
