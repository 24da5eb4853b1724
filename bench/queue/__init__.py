"""How busy the queue keeps a generator."""
