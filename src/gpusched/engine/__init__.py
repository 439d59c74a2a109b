"""The only writer of job state: facts and requests in, events and commands out.

May import domain, placement, launch, policy. Knows no grpc, no database, no clock: time is
an argument, so the simulator runs exactly this. Read ``core.py`` first, then ``state.py``
and ``fold.py`` (what an event changes), ``lifecycle.py`` (what follows from it) and ``loop.py`` (the tick).
"""
