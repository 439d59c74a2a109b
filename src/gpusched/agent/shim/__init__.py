"""The supervisor of one attempt on one node: a tiny process of its own that outlives the agent.

Imports the standard library and ``gpusched.domain`` alone, since its interpreter runs with ``-I -S``
and finds nothing else. Read ``supervisor.py`` first; the agent's side is ``agent/runner.py``.
"""
