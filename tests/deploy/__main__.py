"""`python -m tests.deploy`: the acceptance of the compose deployment; exit 77 when there is no container engine."""

import sys
from pathlib import Path

import pytest

from tests.deploy.compose import missing_engine

SKIPPED = 77
"""Not 0, so that it does not look like a success. Test harnesses use 77 for a test that could not run."""

if __name__ == "__main__":
    if reason := missing_engine():
        print(f"compose-test: {reason}; nothing was tested (exit code {SKIPPED})", file=sys.stderr)
        sys.exit(SKIPPED)
    sys.exit(
        pytest.main([str(Path(__file__).parent / "acceptance.py"), "-v", "-s", "-p", "no:cacheprovider", *sys.argv[1:]])
    )
