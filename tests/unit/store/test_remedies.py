import pytest

from gpusched.store.connections import remedy_for


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("database or disk is full", "; make room on its disk"),
        ('could not extend file "base/5/1": No space left on device', "; make room on its disk"),
        (
            'connection failed: FATAL:  password authentication failed for user "ada"',
            "; mend the user or password (store.url, ~/.pgpass)",
        ),
        ('connection failed: FATAL:  database "x" does not exist', "; create it, or mend store.url"),
        ('connection failed: connection to server at "db1" failed', "; start it, or mend store.url"),
        ("server closed the connection unexpectedly", ""),
    ],
)
def test_what_an_operator_can_do_is_said(said, remedy):
    assert remedy_for(said) == remedy
