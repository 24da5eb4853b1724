"""REST for the browser: JSON, server-sent events, image bytes and two pages, over gRPC."""
