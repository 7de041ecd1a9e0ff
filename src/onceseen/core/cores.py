"""How many cores and how much memory this process may use: cgroup limits and affinity are respected."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


def available_cores() -> int:
    """Cores that this process may run on."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that a job may plan with: free memory, within the cgroup's limit."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 4 << 30
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    limit = _CGROUP_MEMORY.read_text().strip() if _CGROUP_MEMORY.exists() else "max"
    return min(free, int(limit)) if limit.isdigit() else free
