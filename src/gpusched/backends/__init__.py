"""Ways to start processes somewhere. Each is a sink for commands; facts come back as events.

May import floors 0 to 3. ``bare_metal.py`` is our own agents.
"""
