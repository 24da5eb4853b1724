"""What happens around every request. From the outside: pieces, metrics, headers, prefix, hosts, CORS, the cache
(gateway.cache), compression, problems, methods, access, limits, reads (gateway.routes.reads).
"""
