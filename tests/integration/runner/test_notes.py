"""What ranks leave for the agent: their step, and flight records. Nothing in the folder is trusted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from integration.runner.rig import ME, Node, launch_of, python, shell

from gpusched.agent.shim.notes import Progress, filled_in, make_notes, read_progress
from gpusched.domain.launch_plan import TaskLaunch


def noting(task: TaskLaunch) -> TaskLaunch:
    """The rank with the variables that a plan gives it."""
    named = (("PROGRESS", "{notes}/progress-0"), ("TRACE", "{notes}/nccl-trace-0"), ("WORD", "a{notes}"))
    return replace(task, env=(*task.env, *named))


async def test_a_rank_finds_its_files_and_what_it_left_is_kept_or_gone(node: Node) -> None:
    code = (
        "import os\n"
        "open(os.environ['PROGRESS'], 'w').write('41')\n"
        "open(os.environ['TRACE'], 'w').write('a flight record')\n"
        "print(os.environ['PROGRESS'], os.environ['WORD'])"
    )
    ended = await node.run(launch_of(noting(python(code))))
    assert [exit_.exit_code for exit_ in ended.exits] == [0]
    path, word = (await node.output()).split()
    assert word == "a{notes}"
    assert not Path(path).parent.exists()
    assert (node.files().stacks / "nccl-trace-0").read_text() == "a flight record"


async def test_a_flight_record_that_is_a_link_or_a_fifo_is_not_followed(node: Node, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    made = f'ln -s {secret} "$TRACE"; ln {secret} "$TRACE.hard"; mkfifo "$TRACE.fifo"; mkdir "$TRACE.dir"'
    await node.run(launch_of(noting(shell(made))))
    assert not node.files().stacks.exists()


def test_where_the_folder_cannot_be_made_ranks_run_without(tmp_path: Path) -> None:
    assert make_notes(tmp_path / "missing" / "notes", ME) is None
    env = (("PROGRESS", "{notes}/progress-0"), ("WORD", "a{notes}"))
    assert filled_in(env, None) == {"WORD": "a{notes}"}
    assert filled_in(env, "/n") == {"PROGRESS": "/n/progress-0", "WORD": "a{notes}"}


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ("7", Progress(7)),
        (" 7\n", Progress(7)),
        ("-1", Progress(-1)),
        ("7 1.25", Progress(7, 1.25)),
        ("7 0\n", Progress(7, 0.0)),
        *((text, None) for text in ("", "seven", "7 1.5 9", "7 nan", "7 1e999", "7 s", str(2**63))),
    ],
)
def test_progress_is_a_step_with_or_without_seconds_or_nothing(
    tmp_path: Path, text: str, progress: Progress | None
) -> None:
    (tmp_path / "progress-0").write_text(text)
    assert read_progress(tmp_path, "progress-0", ME) == progress


def test_a_step_that_is_no_plain_file_of_its_owner_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("7")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "fifo")
    stranger = replace(ME, uid=ME.uid + 1)
    assert read_progress(tmp_path, "link", ME) is None
    assert read_progress(tmp_path, "fifo", ME) is None
    assert read_progress(tmp_path, "a", stranger) is None
    assert read_progress(tmp_path, "missing", ME) is None
