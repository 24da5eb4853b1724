"""Load tests with ghz: every call beside a no-op server that answers the same bytes."""
