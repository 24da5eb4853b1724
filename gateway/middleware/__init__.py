"""What happens around every request. From the outside: metrics, headers, prefix, hosts, CORS, compression, problems,
methods, access, limits.
"""
