"""The JSON of the REST interface: its shapes, and their conversion to and from gRPC messages."""
