"""Who starts now, who waits and for what: a queue, a snapshot and the time in, a Plan out.

Imports ``domain`` and ``placement``; reads no clock. Read ``plan.py`` first (the values), then
``backfill.py`` (the decision), then ``forecast.py`` (when the first that waits could start).
"""
