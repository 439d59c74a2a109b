"""Where could a job run, on which devices, and why not: pure functions over numpy arrays.

Imports ``domain`` and numpy alone; reads no clock and rolls no dice, so equal inputs give equal
answers. Read ``snapshot.py`` first (what is free), then ``fit.py`` (which nodes can), ``gang.py``
(which nodes will), ``devices.py`` (which GPUs and CPUs inside them), ``diagnose.py`` (why not). Where nodes hang and which of
them are near: ``tree.py``, ``domains.py``, ``topology.py``.
"""
