"""`python -m gateway.health URL`: exit code 0 if the gateway responds with 200, otherwise 1; for container probes.

It asks nothing but the gateway itself: pages are served while another service is down. No proxy is used.
"""

import sys
import urllib.error
import urllib.request

TIMEOUT_SECONDS = 4.0


def responds(url: str) -> bool:
    """Whether `url` responds with 200. Prints the reason if it does not."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as response:
            return bool(response.status == 200)
    except OSError as error:  # HTTPError is one
        print(f"{url}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(0 if responds(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/healthz") else 1)
