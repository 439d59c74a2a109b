"""What things are: frozen dataclasses and enums, standard library only. Imports nothing above it.

``events.py`` and ``commands.py`` are the system's vocabulary; read them first, then
``job.py`` and ``job_state.py``.
"""
