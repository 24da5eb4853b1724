"""Load tests with ghz: every call beside a no-op server that returns the same bytes."""
