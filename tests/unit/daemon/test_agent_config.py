"""The file of a node's health checks: what is wrong is named in the words of the head's own file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpusched.daemon.agent_config import load_health
from gpusched.domain.errors import ConfigInvalid


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("intervall_s = 1.0", "intervall_s: unknown key: see docs/operations/health.md"),
        ("[hooks]\nchek = []", "hooks.chek: unknown key"),
        ("interval_s = 0.0", "interval_s: Input should be greater than 0: see docs/operations/health.md"),
        ("interval_s", "not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_the_page(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "health.toml").write_text(text)
    with pytest.raises(ConfigInvalid, match=said):
        load_health(tmp_path / "health.toml")
