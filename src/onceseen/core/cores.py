"""Cores and memory that this process may use, within cgroup limits and affinity; and threads of the image library."""

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


def one_thread_a_call() -> None:
    """Has OpenCV work on the calling thread alone, in this process.

    We decode and compare many pictures side by side, so threads inside a call only fight each other (measured: twice
    the processor time); and some of OpenCV's functions give other last bits for another number of threads.
    """
    import cv2

    cv2.setNumThreads(1)
