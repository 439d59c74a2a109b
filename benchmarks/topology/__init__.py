"""The published topology cases, answered and judged. Read ``kueue.py`` first.

``kueue.py`` only translates: the scheduler's own ``place_on_tree`` decides. The cases of KAI and HiveD
ask for what jobs here cannot: ``groups.py`` (trees of groups), ``elastic.py`` (jobs of changing size),
``queues.py`` (deserved shares) and ``cells.py`` (guaranteed cells) are our readings of the published
rules, on the scheduler's topology tree and on ``shared_nodes.py`` (what is free).
"""
