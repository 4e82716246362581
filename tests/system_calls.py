"""Refuse a program system calls as systemd does: `python system_calls.py FAMILY... -- PROGRAM...`.

FAMILY are the socket address families it may use. The rest follows from `RestrictNamespaces`, `RestrictRealtime`,
`RestrictSUIDSGID`, `LockPersonality` and `SystemCallArchitectures=native`. Needs no_new_privs.
Source: systemd 252, src/shared/seccomp-util.c; libseccomp, seccomp.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Iterable

_ALLOW = 0x7FFF0000
_NOT_EQUAL, _EQUAL, _GREATER_EQUAL, _MASKED_EQUAL = 1, 4, 5, 7  # scmp_compare
_MOST_FAMILIES = 64  # more than any kernel has
_NAMESPACES = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_REALTIME = (1, 2, 6)  # SCHED_FIFO, SCHED_RR, SCHED_DEADLINE


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("one", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    )


class _Filter:
    """A filter that forbids nothing yet, of the native architecture."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._filter = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(_ALLOW)))

    def forbid(self, error: int, call: str, *argument: int) -> None:
        """Have a call fail with `error`, if given only where an argument (number, operator, value, value) is so."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        comparisons = [_Comparison(*argument)] if argument else []
        array = (_Comparison * len(comparisons))(*comparisons)
        action = ctypes.c_uint32(0x00050000 | error)
        _check(self._library.seccomp_rule_add_array(self._filter, action, number, len(comparisons), array))

    def load(self) -> None:
        """From now on it holds."""
        _check(self._library.seccomp_load(self._filter))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def restrict(families: Iterable[str]) -> None:
    """Refuse this process, and all that come of it, what the unit forbids."""
    allowed = {int(getattr(socket, name)) for name in families}
    calls = _Filter()
    for family in set(range(_MOST_FAMILIES)) - allowed:
        calls.forbid(errno.EAFNOSUPPORT, "socket", 0, _EQUAL, family, 0)
    calls.forbid(errno.EAFNOSUPPORT, "socket", 0, _GREATER_EQUAL, _MOST_FAMILIES, 0)
    for call in ("unshare", "clone"):
        for flag in _NAMESPACES:
            calls.forbid(errno.EPERM, call, 0, _MASKED_EQUAL, flag, flag)
    calls.forbid(errno.EPERM, "setns")
    for call in ("clone3", "openat2"):  # their arguments cannot be looked at
        calls.forbid(errno.ENOSYS, call)
    for policy in _REALTIME:
        calls.forbid(errno.EPERM, "sched_setscheduler", 1, _EQUAL, policy, 0)
    for call, mode in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2), ("mknod", 1)):
        for bit in (0o4000, 0o2000):
            calls.forbid(errno.EPERM, call, mode, _MASKED_EQUAL, bit, bit)
    calls.forbid(errno.EPERM, "personality", 0, _NOT_EQUAL, 0, 0)
    calls.load()


if __name__ == "__main__":
    end = sys.argv.index("--")
    restrict(sys.argv[1:end])
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])
