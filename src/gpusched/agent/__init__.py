"""The node's process: reads devices, holds one stream to the head, starts and supervises ranks.

May import only ``domain`` and ``wire``. Read ``session.py`` first (one stream), then ``runner.py``
(attempts), then ``shim/`` (the small process that owns the ranks), which is standard library only.
"""
