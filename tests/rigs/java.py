"""Finding a Java runtime that is new enough, without starting one.

Looks at `REFLEXARC_TEST_JAVA_HOME`, `JAVA_HOME`, the `java` on the path, and the usual folders; takes the oldest that suffices, because a part is
tested most on the oldest Java that it supports.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.rigs.require import Unavailable

_VERSION = re.compile(r'^JAVA_VERSION="(?:1\.)?(\d+)', re.MULTILINE)


def java_home(at_least: int) -> Path:
    """The home of a Java runtime of major version `at_least` or newer.

    Raises:
        Unavailable: there is none.
    """
    override = os.environ.get("REFLEXARC_TEST_JAVA_HOME")
    if override and _major(Path(override)) >= at_least:
        return Path(override)
    found = sorted((major, str(home)) for home in _homes() if (major := _major(home)) >= at_least)
    if not found:
        raise Unavailable(f"no Java {at_least} or newer found (set JAVA_HOME or REFLEXARC_TEST_JAVA_HOME)")
    return Path(found[0][1])


def _homes() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    if java := shutil.which("java"):
        yield Path(java).resolve().parent.parent
    for folder in ("/usr/lib/jvm", "/opt/java", "/opt"):
        if Path(folder).is_dir():
            yield from (path.resolve() for path in Path(folder).iterdir() if (path / "bin" / "java").exists())
    mac = Path("/Library/Java/JavaVirtualMachines")
    if mac.is_dir():
        yield from (path / "Contents" / "Home" for path in mac.iterdir())


def _major(home: Path) -> int:
    release = home / "release"
    if not release.is_file() or not (home / "bin" / "java").exists():
        return 0
    match = _VERSION.search(release.read_text(errors="replace"))
    return int(match[1]) if match else 0
