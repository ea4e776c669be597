"""The rules of the queue, sans-IO: no sockets, files, tasks, clock or randomness of its own."""
