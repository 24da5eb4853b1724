"""The HTTP server: the socket, the connections and their limits."""
