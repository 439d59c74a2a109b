"""What the project's figures are made with: ``make bench`` runs all, ``python -m benchmarks.<name>`` one.

Every benchmark measures the real thing: a head and agents as processes of their own, in a home that is
removed afterwards. Read ``report.py`` first (what a result is), then ``cluster.py`` (how a cluster is
run), then any benchmark: each is one module with a ``measure`` that takes its sizes and returns figures.
"""
