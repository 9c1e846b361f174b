"""Processes of this host: start detached, tell apart, signal. Linux: identity comes from /proc.

Guarantee: a signal reaches the process that was meant or none (its birth is compared after its pidfd is open).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

MARK = "REFLEXARC_INSTANCE"
_PROC = Path("/proc")


def spawn(command: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path | None = None) -> int:
    """Start a process in a session of its own, output appended to `log`; it outlives us. The pid.

    Raises:
        OSError: it cannot be started.
    """
    words = list(command) if cwd is None else ["/usr/bin/env", "-C", str(cwd), *command]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # Python ignores SIGPIPE; a child should start with the defaults that every program expects.
    defaults = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM]
    return os.posix_spawnp(words[0], words, {**os.environ, **env}, file_actions=actions, setsid=True, setsigmask=[], setsigdef=defaults)


def birth(pid: int) -> str:
    """What tells this process from any other that ever had its pid; empty when it is gone or a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # ours: let a zombie go
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else f"{boot[:8]}:{fields[19]}"


def is_alive(pid: int, born: str) -> bool:
    """Whether the very process that was started still runs."""
    return pid > 0 and born != "" and birth(pid) == born


def send(pid: int, born: str, what: signal.Signals) -> bool:
    """Signal that very process; False when it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if birth(pid) != born:
            return False
        signal.pidfd_send_signal(handle, what)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def marked(mark: str) -> int:
    """The pid of the process started with `MARK=mark` in its environment, 0 when there is none."""
    wanted = f"{MARK}={mark}".encode()
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0") and birth(int(entry.name)):
                    return int(entry.name)
    return 0


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
