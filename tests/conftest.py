"""For every test: no clock decides a property, and nobody's real cluster is in reach."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

# How long an example takes says something about the machine, never about the code.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")

# Whoever starts the tests in the background hands down an ignored SIGINT, and Ctrl-C could not be tried.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _no_cluster_in_reach(tmp_path_factory):
    """A test that forgets to name its head finds an empty home, not the cluster of whoever runs the tests."""
    ours = [name for name in os.environ if name.startswith("GPUSCHED_")]
    patch = pytest.MonkeyPatch()
    for name in ours:
        patch.delenv(name)
    patch.setenv("GPUSCHED_HOME", str(tmp_path_factory.mktemp("no-cluster-here")))
    yield
    patch.undo()
