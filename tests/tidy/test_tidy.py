"""The house rules hold, and every rule still catches its fault."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from tidy import rules

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("rule", rules.SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule):
    complaints = list(rule(rules.load(ROOT / "src" / "gpusched")))
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("rule", rules.TEST_RULES, ids=lambda rule: rule.__name__)
def test_the_tests_keep_the_rule(rule):
    complaints = list(rule(rules.load(ROOT / "tests", name="tests")))
    assert not complaints, "\n" + "\n".join(complaints)


def test_test_files_have_unique_names():
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    stems = [path.name for path in paths]
    twice = [str(path) for path in paths if stems.count(path.name) > 1]
    assert not twice, f"two test files of one name confuse reports: rename one of {twice}"


LEGAL = {  # a small house with nothing wrong in it
    "__init__.py": '"""Root."""\n__version__ = "1"\n',
    "__main__.py": """
        from gpusched.agent import shim
        from gpusched.cli import main
        from gpusched.engine import loop
        STARTED = "gpusched.daemon.main:run"
        """,
    "domain/__init__.py": '"""Door."""\n',
    "domain/job.py": "from dataclasses import dataclass\n",
    "placement/__init__.py": '"""Door."""\n',
    "placement/gang.py": "import numpy\nfrom gpusched.domain import job\n",
    "wire/__init__.py": '"""Door."""\n',
    "wire/client.py": "import grpc\nfrom gpusched.v1 import job_pb2\nfrom gpusched import __version__\n",
    "engine/__init__.py": '"""Door."""\n',
    "engine/loop.py": "def tick(now_us):\n    from gpusched.placement import gang\n    return gang\n",
    "store/__init__.py": '"""Door."""\n',
    "store/schema.py": "import sqlalchemy, time\n\ndef now():\n    return time.time()\n",
    "cli/__init__.py": '"""Door."""\n',
    "cli/main.py": "from gpusched.wire import client\nfrom ..domain import job\nprint(1)\n",
    "agent/__init__.py": '"""Door."""\n',
    "agent/shim.py": "import os, signal, subprocess\nfrom gpusched.domain import job\n",
    "daemon/__init__.py": '"""Door."""\n',
    "daemon/main.py": """
        from gpusched.store import schema
        def run():
            try:
                schema.now()
            # The top of the supervised loop: whatever happened is logged, and the loop goes on.
            except Exception:
                raise
        """,
}

FAULTS = {
    "upward import": (rules.floors, "domain/x.py", "from gpusched.engine.loop import tick"),
    "import hidden in a function": (
        rules.floors,
        "placement/x.py",
        "def f():\n    import gpusched.engine.loop",
    ),
    "package imported by name": (rules.floors, "wire/x.py", "from gpusched import engine"),
    "relative import": (rules.floors, "placement/x.py", "from ..engine import loop"),
    "sideways import": (rules.floors, "placement/x.py", "from gpusched.wire import client"),
    "import by string": (
        rules.floors,
        "domain/x.py",
        "import importlib\nimportlib.import_module('gpusched.engine')",
    ),
    "cli importing engine": (rules.floors, "cli/x.py", "from gpusched.engine import loop"),
    "agent importing placement": (rules.floors, "agent/x.py", "from gpusched.placement import gang"),
    "package without a floor": (rules.floors, "cellar/x.py", "pass"),
    "SQLAlchemy outside store": (rules.owners, "engine/x.py", "from sqlalchemy.orm import Session"),
    "grpc outside wire": (rules.owners, "cli/x.py", "import grpc.aio"),
    "generated code outside wire": (rules.owners, "agent/x.py", "from gpusched.v1 import job_pb2"),
    "generated code as a name": (rules.owners, "agent/x.py", "from gpusched import v1"),
    "pynvml outside agent": (rules.owners, "telemetry/x.py", "import pynvml"),
    "torch anywhere": (rules.owners, "launch/x.py", "def f():\n    import torch"),
    "shim with a dependency": (rules.owners, "agent/shim.py", "import psutil"),
    "shim importing us": (rules.owners, "agent/shim.py", "from gpusched.agent import link"),
    "domain with a dependency": (rules.owners, "domain/x.py", "import msgspec"),
    "cycle": (rules.cycles, "domain/job.py", "from gpusched.domain import x"),
    "module that only tests use": (rules.orphans, "policy/x.py", "from gpusched.domain import job"),
    "clock by another name": (rules.core, "policy/x.py", "from time import time as t"),
    "wall clock": (rules.core, "engine/x.py", "import datetime\ndatetime.datetime.now()"),
    "dice": (rules.core, "placement/x.py", "import numpy as np\nnp.random.default_rng()"),
    "print below the edge": (rules.core, "engine/x.py", "print(1)"),
    "hands in the core": (rules.core, "launch/x.py", "import subprocess"),
    "function of 71 lines": (rules.sizes, "store/x.py", "def f():\n" + "    a = 1\n" * 71),
    "module of 501 lines": (rules.sizes, "store/x.py", "a = 1\n" * 501),
    "nameless module": (rules.names, "store/utils.py", "pass"),
    "door without docstring": (rules.doors, "store/__init__.py", "from gpusched.store import schema"),
    "code in a door": (rules.doors, "store/__init__.py", '"""Door."""\ndef f(): pass'),
    "unexplained broad except": (
        rules.broad,
        "store/x.py",
        "try:\n    pass\nexcept Exception:  # noqa: BLE001\n    a = 1",
    ),
    "bare except": (rules.broad, "store/x.py", "try:\n    pass\nexcept:\n    a = 1"),
    "test that cannot fail": (rules.judgement, "domain/test_x.py", "def test_a():\n    f()"),
    "sleeping test": (
        rules.judgement,
        "domain/test_x.py",
        "import time\ndef test_a():\n    time.sleep(1)\n    assert 1",
    ),
}


def house(folder: Path, extra: dict[str, str]) -> tuple[rules.Module, ...]:
    """Write the legal house and ``extra`` on top of it, and load it."""
    for name, text in (LEGAL | extra).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text) + "\n")
    return rules.load(folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, tmp_path):
    rule, name, text = FAULTS[fault]
    extra = {"domain/x.py": "from gpusched.domain import job"} if fault == "cycle" else {}
    complaints = list(rule(house(tmp_path, extra | {name: text})))
    assert complaints
    assert all(str(tmp_path) in complaint and ": " in complaint for complaint in complaints)


@pytest.mark.parametrize("rule", rules.SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_the_legal_house_passes(rule, tmp_path):
    assert list(rule(house(tmp_path, {}))) == []


def test_a_sound_test_passes(tmp_path):
    text = """
        import time, pytest
        def settle():
            while True:
                time.sleep(0.01)
        def test_a():
            assert settle()
        def test_b():
            with pytest.raises(ValueError):
                settle()
        """
    assert list(rules.judgement(house(tmp_path, {"domain/test_x.py": text}))) == []
