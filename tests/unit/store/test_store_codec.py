from typing import get_args

import pytest

from gpusched.domain.commands import Command
from gpusched.domain.errors import LogCorrupt
from gpusched.domain.events import Event, JobHeld, JobReleased
from gpusched.domain.ids import JobId
from gpusched.store.codec import COMMANDS, EVENTS, JOB, encode, kind_of


def test_every_event_and_every_command_can_be_read():
    assert EVENTS.kinds == {member.__name__ for member in get_args(Event)}
    assert COMMANDS.kinds == {member.__name__ for member in get_args(Command)}


def test_an_event_of_an_unknown_kind_is_refused_by_name():
    with pytest.raises(LogCorrupt, match=r"'JobTeleported'.*run the version"):
        EVENTS.decode("JobTeleported", "{}")


@pytest.mark.parametrize("text", ["", "not json", "{}", '{"job_id": "one", "by": "ada"}'])
def test_text_that_is_not_of_the_kind_is_refused(text):
    with pytest.raises(LogCorrupt, match="JobHeld that cannot be read"):
        EVENTS.decode("JobHeld", text)
    with pytest.raises(LogCorrupt, match="job that cannot be read"):
        JOB.decode(text)


def test_a_field_that_a_later_version_added_is_ignored():
    event = JobHeld(job_id=JobId(1), by="ada")
    assert EVENTS.decode(kind_of(event), '{"job_id": 1, "by": "ada", "mood": "good"}') == event


def test_text_is_json_that_a_person_can_read():
    assert encode(JobReleased(job_id=JobId(1), by="ädä")) == '{"job_id":1,"by":"ädä"}'
