"""Completion times on published job traces: ``python -m benchmarks.jct``. Read ``replay.py`` first."""
