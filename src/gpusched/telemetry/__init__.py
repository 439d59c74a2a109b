"""Measurements in memory: the newest samples of every node. May import only ``domain``.

Samples may be lost; nothing that is billed depends on them.
"""
