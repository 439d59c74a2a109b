"""The command line: ``gpusched <noun> <verb>``. A module per noun; no scheduling logic.

It may import only ``domain`` and ``wire``. It alone knows click, rich, pydantic and PyYAML.
Read ``main.py`` first (which command lives where), then ``job_of_draft.py`` (the one door through
which every job comes, whether it was written as options, directives or YAML).
"""
