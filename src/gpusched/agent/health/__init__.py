"""Watching the node's health: the kernel's log, NVML, mounts, disks, clocks, site checks; and mending it.

What is observed goes up as facts; what follows from it is decided by the head. Imports domain and the
agent's own modules. Read ``monitor.py`` first.
"""
