"""The lock of an open file or folder, which ends with the process that holds it, however it ends (flock)."""

from __future__ import annotations


def take(handle: int) -> bool | None:
    """Take the lock without waiting: True where it is ours now, False where another process holds it.

    None where there are no locks: on systems without POSIX, and on some file systems.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
