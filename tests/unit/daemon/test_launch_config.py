from __future__ import annotations

import pytest

from gpusched.daemon.config import load_config
from gpusched.domain.errors import ConfigInvalid
from gpusched.engine.state import MASTER_PORTS


def ports(tmp_path, text):
    file = tmp_path / "config.toml"
    file.write_text(f'[launch]\nmaster_ports = "{text}"\n')
    return load_config(file).engine_settings().master_ports


def test_the_range_names_its_first_and_its_last_port(tmp_path):
    assert ports(tmp_path, "30000-30999") == range(30_000, 31_000)


def test_a_head_without_a_file_leases_the_ports_of_the_page():
    assert load_config(None).engine_settings().master_ports == MASTER_PORTS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("30000", "first and the last"),
        ("30000-", "first and the last"),
        ("-30000-31000", "first and the last"),
        ("1023-9999", "between 1024 and 65535"),
        ("60000-65536", "between 1024 and 65535"),
        ("30000-30998", "at least 1000 ports"),
        ("31000-30000", "at least 1000 ports"),
    ],
)
def test_what_is_no_range_is_refused_with_the_reason(tmp_path, text, why):
    with pytest.raises(ConfigInvalid, match=rf"launch\.master_ports.*{why}"):
        ports(tmp_path, text)
