"""Fetching the real parts once: Maven artifacts into a cache folder that all test runs of a user share.

Owns `~/.cache/reflexarc-tests` (or `REFLEXARC_TEST_CACHE`). Guarantee: an entry is either whole or absent (it is built beside and then renamed), and
two runs that want the same entry at once build it once (a file lock).
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.rigs.require import Unavailable

_MAVEN_TIMEOUT_S = 900


def cache_dir() -> Path:
    """The cache folder; made when it is not there."""
    folder = Path(os.environ.get("REFLEXARC_TEST_CACHE") or Path.home() / ".cache" / "reflexarc-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def world_readable_cache_dir() -> Path:
    """The cache folder for parts that refuse to run as root and so are read by another user.

    A home folder is often closed to others (`/root` is), so as root it falls back to a folder of ours under `/var/tmp`.
    """
    folder = cache_dir()
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents)):
        return folder
    shared = Path("/var/tmp/reflexarc-tests-root")
    shared.mkdir(mode=0o755, exist_ok=True)
    if shared.is_symlink() or shared.stat().st_uid != 0:
        raise Unavailable(f"{shared} belongs to somebody else (set REFLEXARC_TEST_CACHE to a folder that others may read)")
    return shared


def fetch(entry: Path, build: Callable[[Path], None]) -> Path:
    """Return `entry`, building it first where it is absent: `build` fills an empty folder that becomes the entry.

    Raises:
        Unavailable: `build` could not get what it needs.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    with (entry.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not entry.exists():
            half_built = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
            half_built.chmod(0o755)
            try:
                build(half_built)
                half_built.rename(entry)
            finally:
                shutil.rmtree(half_built, ignore_errors=True)
    return entry


def maven(*arguments: str) -> None:
    """Run Maven quietly.

    Raises:
        Unavailable: no Maven, no Java for it, or what was asked for could not be downloaded.
    """
    command = shutil.which("mvn")
    if command is None:
        raise Unavailable("no `mvn` (Apache Maven) on the path to download it with")
    try:
        done = subprocess.run(
            [command, "-q", "-B", "-ntp", "-Dstyle.color=never", *arguments], capture_output=True, text=True, timeout=_MAVEN_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"mvn did not finish within {_MAVEN_TIMEOUT_S} s") from error
    if done.returncode:
        said = [line.removeprefix("[ERROR]").strip() for line in (done.stdout + done.stderr).splitlines()]
        raise Unavailable(f"mvn failed: {next(filter(None, said), 'it said nothing')[:400]}")
