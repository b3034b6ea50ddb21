"""Runs a command that dies with its parent: `python -S -E guard.py PARENT_PID COMMAND...`.

A process that is killed outright cannot stop its children, so on Linux each child asks the kernel to be killed with it. This
is done here, in a process of its own, since Python code between fork and exec can deadlock in a parent that has threads. A
script, run without site-packages: it starts in 10 ms.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606  # the caller names the program by its full path


if __name__ == "__main__":
    main()
