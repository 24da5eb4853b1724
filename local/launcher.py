"""Becomes another program, as another user: `python launcher.py PARENT SIGNAL USER GROUP PROGRAM ARGUMENT…`.

- USER and GROUP: numeric ids; `-1` keeps the current user; `namespace` enters a user namespace (unprivileged.py).
- SIGNAL: the signal that the program receives when PARENT, the process that started us, dies.

It is a separate program because a process with threads cannot enter a user namespace, and gRPC's threads survive a
fork. It imports only the standard library.
"""

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_INSIDE_UID = 1000


def main(parent: int, death_signal: int, user: str, group: str, command: list[str]) -> None:
    """Change the user, request the death signal, become the program. Returns only by an exception."""
    libc = ctypes.CDLL(None, use_errno=True)
    if user == "namespace":
        enter_namespace(libc)
    elif int(user) >= 0:
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if hasattr(libc, "prctl"):  # after the change of user, which clears the death signal
        libc.prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # the parent died before the line above
            sys.exit(1)
    os.execvp(command[0], command)


def enter_namespace(libc: ctypes.CDLL) -> None:
    """Enter a user namespace in which we are not root. Outside of it we still own root's files."""
    if libc.unshare(_CLONE_NEWUSER) != 0:
        reason = os.strerror(ctypes.get_errno())
        sys.exit(f"this program may not run as root, and no user namespace can be made: {reason}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_INSIDE_UID} 0 1")
    Path("/proc/self/gid_map").write_text(f"{_INSIDE_UID} 0 1")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
