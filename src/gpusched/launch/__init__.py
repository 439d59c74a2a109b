"""What exactly to start: an allocation in, a ``LaunchPlan`` out, and no effect anywhere.

Imports ``domain`` only. Read ``plan.py`` first; ``ranks.py`` numbers the tasks, ``environ.py``
builds the environment of each, ``script.py`` its argv.
"""
