"""An agent one version older or newer is served; one further off is told what to install."""

from __future__ import annotations

import pytest

from gpusched.api.versions import why_not_served


@pytest.mark.parametrize("agent", ["1.4.0", "1.3.9", "1.5.0", "1.4.0.dev1+g12", "0", "", "x", "1.4rc1"])
def test_a_neighbour_is_served(agent):
    assert why_not_served(agent, "1.4.2") is None


@pytest.mark.parametrize("agent", ["1.2.9", "1.6.0", "0.4.2", "2.4.2"])
def test_who_is_too_far_off_is_told_what_to_install(agent):
    said = why_not_served(agent, "1.4.2")
    assert said is not None and agent in said and "install 1.4" in said
