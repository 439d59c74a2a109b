"""Where could a job run, on which devices, and why not: pure functions over numpy arrays.

Imports ``domain`` and numpy alone; reads no clock and rolls no dice, so equal inputs give equal
answers. Read ``snapshot.py`` first (what is free), then ``fit.py`` (which nodes can), ``gang.py``
(which nodes will), ``devices.py`` (which GPUs and CPUs inside them), ``diagnose.py`` (why not).

Which nodes are near each other: ``tree.py`` (where they hang), ``domains.py`` (the choice),
``topology.py`` (what jobs wish of it).

GPUs shared in thousandths have their own, smaller world: ``shared_nodes.py`` (what is free),
``fragmentation.py`` (the measure), ``packing.py`` (our score), ``columns.py`` (one request at a time).
"""
