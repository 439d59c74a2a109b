"""The node's process: reads devices, holds one stream to the head, starts and supervises ranks.

May import only ``domain`` and ``wire``. Read ``session.py`` first (one stream), then ``runner.py``
(orders about attempts) and ``follow.py`` (how they start and end), then ``shim/`` (the small process
that owns the ranks), which is standard library only.
"""
