"""Becomes another program, as somebody else: `python launcher.py PARENT SIGNAL USER GROUP PROGRAM ARGUMENT…`.

- USER and GROUP: the ids to take; `-1`: stay who we are; `namespace`: be root under another name (unprivileged.py).
- SIGNAL: what the program gets when PARENT, the process that started us, dies.

This is a program of its own, and not something done between fork and exec, because a process with threads may not enter
a user namespace, and gRPC's threads survive a fork. It imports nothing but the standard library.
"""

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_INSIDE_UID = 1000


def main(parent: int, death_signal: int, user: str, group: str, command: list[str]) -> None:
    """Take the identity, tie our life to the parent's, become the program. Returns only by an exception."""
    libc = ctypes.CDLL(None, use_errno=True)
    if user == "namespace":
        enter_namespace(libc)
    elif int(user) >= 0:
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if hasattr(libc, "prctl"):  # after the identity: changing the user clears the death signal
        libc.prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before the line above
            sys.exit(1)
    os.execvp(command[0], command)


def enter_namespace(libc: ctypes.CDLL) -> None:
    """Enter a user namespace in which we are not root, and outside of which we still own root's files."""
    if libc.unshare(_CLONE_NEWUSER) != 0:
        reason = os.strerror(ctypes.get_errno())
        sys.exit(f"this program may not run as root, and no user namespace can be made: {reason}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_INSIDE_UID} 0 1")
    Path("/proc/self/gid_map").write_text(f"{_INSIDE_UID} 0 1")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
