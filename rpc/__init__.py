"""What every process needs to speak gRPC; it knows no domain noun."""
