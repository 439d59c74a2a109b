"""``gpusched agent`` of a version that lacks the orders named in $LACKS: they are in no hello of its own.

python -m older_agent agent --name n1 ...
"""

from __future__ import annotations

import os
import sys

from gpusched.agent import main as agent
from gpusched.agent import session
from gpusched.cli.main import main

session.KINDS = tuple(kind for kind in session.KINDS if kind not in os.environ["LACKS"].split(","))
agent._version = lambda: "0.0.9"

if __name__ == "__main__":
    sys.exit(main())
