"""A password in the configuration is for the head's user."""

from __future__ import annotations

import pytest

from gpusched.daemon.config import load_config
from gpusched.domain.errors import ConfigInvalid

WITH_PASSWORD = (
    "postgresql+psycopg://ada:secret@db1/main",
    "postgresql+psycopg://ada:sec/ret@db1/main",
    "postgresql+psycopg://:secret@db1/main",
    "postgresql+psycopg://ada@/main?host=db1&password=secret",
    "postgresql+psycopg:///main?password=secret",
)
WITHOUT = (
    "sqlite:////var/lib/a:b@c/gpusched.db",
    "postgresql+psycopg://ada@db1:5432/main",
    "postgresql+psycopg://db1:5432/main?host=a",
)


def written(tmp_path, url, mode):
    file = tmp_path / "config.toml"
    file.write_text(f'[store]\nurl = "{url}"\n')
    file.chmod(mode)
    return file


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_a_password_that_everybody_may_read_is_refused_and_not_repeated(tmp_path, url):
    with pytest.raises(ConfigInvalid, match=r"holds a password .*: chmod o= .*\.pgpass") as refused:
        load_config(written(tmp_path, url, 0o604))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", WITH_PASSWORD)
@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_password_in_a_closed_file_is_taken(tmp_path, url, mode):
    assert load_config(written(tmp_path, url, mode)).store.url == url


@pytest.mark.parametrize("url", WITHOUT)
def test_a_url_without_a_password_may_be_read_by_all(tmp_path, url):
    assert load_config(written(tmp_path, url, 0o644)).store.url == url
