"""What happens around every request. In order: metrics, headers, CORS, problems, access, limits."""
