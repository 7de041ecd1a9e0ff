"""Java on this machine, for the job servers of Spark and Flink."""

from __future__ import annotations

import re
import shutil
import subprocess

from onceseen.jobs.checks import CheckError

JAVA_VERSIONS = range(11, 18)
"""What Spark 3.5 runs on, and Flink."""
_ANSWER_SECONDS = 30


def find_java(command: str = "java") -> str:
    """The path of a Java that Beam's job servers run on.

    Args:
        command: A name to look up in PATH, or a path.

    Raises:
        CheckError: If there is none, or it is of another version; with what to install.
    """
    java = shutil.which(command)
    if java is None:
        raise CheckError(
            f"no `{command}` in PATH: install Java 17 (Debian: apt-get install openjdk-17-jre-headless)"
        )
    try:
        ran = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False, timeout=_ANSWER_SECONDS
        )
        said = ran.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found[1]) not in JAVA_VERSIONS:
        raise CheckError(
            f"Beam's job servers for Spark and Flink run on Java {JAVA_VERSIONS.start} to {JAVA_VERSIONS.stop - 1}, "
            f"but `{java} -version` says: {' '.join(said.split())[:200] or 'nothing'}; install Java 17 (Debian: "
            "apt-get install openjdk-17-jre-headless) and put it first in PATH"
        )
    return java
