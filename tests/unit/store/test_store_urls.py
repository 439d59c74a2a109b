import pytest

from gpusched.domain.errors import ConfigInvalid
from gpusched.store.connections import parse_url, place_of


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpusched.db",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://ada@host/db",
        "mysql://ada:secret@host/db",
        "postgresql+psycopg://ada:secret@host:port/db",
        "sqlite+aiosqlite:////tmp/x.db",
    ],
)
def test_a_url_that_names_no_usable_database_is_refused_with_examples(url):
    with pytest.raises(ConfigInvalid, match=r"sqlite:////.*postgresql\+psycopg://") as refused:
        parse_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sqlite:////var/lib/gpusched.db", "sqlite:////var/lib/gpusched.db"),
        ("postgresql+psycopg://ada:secret@db1/main", "postgresql+psycopg://ada@db1/main"),
        ("postgresql+psycopg://ada@/main?host=db1&password=secret", "postgresql+psycopg://ada@db1/main"),
        ("postgresql+psycopg:///main?host=/run/pg&password=secret", "postgresql+psycopg:///main"),
    ],
)
def test_a_database_is_named_without_password_and_options(url, place):
    assert place_of(parse_url(url)) == place
