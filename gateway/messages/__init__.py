"""Between gRPC messages and the JSON of gateway.schemas; nothing else happens here."""
