"""gRPC servers and clients, errors, logging and settings for every process. It knows nothing of the domain."""
