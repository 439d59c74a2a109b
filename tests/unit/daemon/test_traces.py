"""Traces of other systems: what is read from them, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gpusched.daemon.traces import TraceFormat, TraceJob, read_trace
from gpusched.domain.errors import InvalidSpec


def written(folder: Path, *lines: str) -> Path:
    path = folder / "trace.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


MURI_HEADER = "job_id,num_gpu,submit_time,iterations,model_name,batch_size,iteration_time"
SACCT_HEADER = "JobID|User|Account|Submit|Start|End|Timelimit|AllocTRES"


def test_muri_jobs_last_their_iterations_stretched(tmp_path: Path) -> None:
    (job,) = read_trace(written(tmp_path, MURI_HEADER, "7,8,1500,1000,bert,4,200"), TraceFormat.MURI)
    assert job == TraceJob(
        name="7", submit_s=1.5, duration_s=pytest.approx(203.0), gpus=8, workload=("bert", "4")
    )


def test_submissions_count_from_the_first_and_ties_keep_their_order(tmp_path: Path) -> None:
    path = written(tmp_path, "job_id,submission_time,duration,num_gpu", "b,60,1,1", "c,50,1,1", "a,60,1,1")
    jobs = read_trace(path, TraceFormat.ITP)
    assert [(job.name, job.submit_s) for job in jobs] == [("c", 0), ("b", 10), ("a", 10)]


def test_philly_times_are_moments(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "job_id,timestamp,duration,num_gpus",
        "x,2017-09-21 17:00:12,976570.0,1",
        "y,2017-09-22 17:00:12,5,4",
    )
    assert [job.submit_s for job in read_trace(path, TraceFormat.PHILLY)] == [0, 86_400]


def test_a_gzipped_trace_reads_like_a_plain_one(tmp_path: Path) -> None:
    text = "job_id,submit_s,duration_s,gpus,account\nj,3,4,2,team\n"
    plain, packed = tmp_path / "t.csv", tmp_path / "t.csv.gz"
    plain.write_text(text, encoding="utf-8")
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_trace(plain, TraceFormat.CSV) == read_trace(packed, TraceFormat.CSV)


def test_swf_comments_and_jobs_that_never_ran_are_passed_over(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "; Version: 2.2",
        "1 10 5 100 4 -1 -1 8 200 -1 1 3 7 -1 -1 -1 -1 -1",
        "2 11 -1 -1 -1 -1 -1 8 200 -1 5 3 7 -1 -1 -1 -1 -1",
    )
    (job,) = read_trace(path, TraceFormat.SWF)
    assert (job.gpus, job.duration_s, job.time_limit_s, job.user, job.account) == (4, 100, 200, "3", "7")


def test_sacct_takes_allocations_and_leaves_steps_and_jobs_that_did_not_run(tmp_path: Path) -> None:
    times = "2026-01-01T00:00:00|2026-01-01T00:01:00|2026-01-01T01:01:00"
    path = written(
        tmp_path,
        SACCT_HEADER,
        f"12|eva|ml|{times}|1-02:03:04|cpu=64,gres/gpu=16,node=2",
        f"12.batch|||{times}||cpu=64,node=2",
        "13|eva|ml|2026-01-01T00:00:00|Unknown|Unknown|UNLIMITED|",
    )
    (job,) = read_trace(path, TraceFormat.SACCT)
    assert (job.nodes, job.gpus, job.cpus, job.duration_s) == (2, 16, 64, 3600)
    assert (job.user, job.account, job.time_limit_s) == ("eva", "ml", 93_784)


@pytest.mark.parametrize(
    ("format_", "lines", "said"),
    [
        (TraceFormat.ITP, ["job_id,submission_time,duration,num_gpu", "a,0,1,1", "b,0,x,1"], ":3: duration"),
        (TraceFormat.ITP, ["job_id,submission_time,duration,num_gpu", "a,0,-1,1"], ":2: duration"),
        (TraceFormat.ITP, ["job_id,submission_time,duration,num_gpu", "a,0,nan,1"], ":2: duration"),
        (TraceFormat.ITP, ["job_id,submission_time,duration,num_gpu", "a,0,1,0"], ":2: num_gpu"),
        (TraceFormat.ITP, ["job_id,submission_time,duration,num_gpu", "a,0,1,1.5"], ":2: num_gpu"),
        (TraceFormat.ITP, ["job_id,submission_time,duration,num_gpu", "a,0,1"], ":2: has 3 fields"),
        (TraceFormat.ITP, ["job_id,duration,num_gpu"], ":1: lacks the column submission_time"),
        (TraceFormat.ITP, ["job_id,submission_time,duration,num_gpu"], "holds no job"),
        (TraceFormat.PHILLY, ["job_id,timestamp,duration,num_gpus", "a,noon,1,1"], ":2: timestamp"),
        (TraceFormat.SWF, ["1 2 3"], ":1: has 3 fields"),
        (
            TraceFormat.SACCT,
            [SACCT_HEADER, "1|u|a|2026-01-01|2026-01-02|2026-01-01|0:1|gres/gpu=1"],
            ":2: End",
        ),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_field(
    tmp_path: Path, format_: TraceFormat, lines: list[str], said: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        read_trace(written(tmp_path, *lines), format_)
    assert said in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(b"\x00\xff\xfe not gzip")
    with pytest.raises(InvalidSpec):
        read_trace(path, TraceFormat.ITP)
