"""Where could a job run, on which devices, and why not: pure functions over numpy arrays.

Imports ``domain`` and numpy alone; reads no clock and rolls no dice, so equal inputs give equal
answers. Read ``snapshot.py`` first (what is free), then ``fit.py`` (which nodes can), ``gang.py``
(which nodes will), ``devices.py`` (which GPUs and CPUs inside them), ``diagnose.py`` (why not).

Which nodes are near each other: ``tree.py`` (where they hang), ``domains.py`` (the choice),
``topology.py`` (what jobs wish of it).

Which of the nodes that can: ``fragmentation.py`` (what the usual requests lose), ``packing.py`` (the score of
a node), ``columns.py`` (scores kept between decisions).
"""
