"""Configuration and the only wiring: where a concrete store meets concrete backends and handlers.

May import everything. Read ``head.py`` first; ``config.py`` turns one TOML file into frozen
settings; ``commands.py`` holds the ``up``, ``head``, ``agent`` and ``token`` commands.
"""
