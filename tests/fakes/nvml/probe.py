"""A child process with the real pynvml in it: answers scan and sample on a pipe, one line of JSON each.

Run it with the fake library first in LD_LIBRARY_PATH. First line out: "open", "none" or "broken <why>".
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from gpusched.agent.nvml import NvmlReader, open_nvml
from gpusched.agent.nvml_call import NvmlBroken


def main() -> None:
    try:
        reader = open_nvml(Path(sys.argv[1]))
    except NvmlBroken as error:
        say(f"broken {error}")
        return
    if reader is None:
        say("none")
        return
    with reader:
        say("open")
        for line in sys.stdin:
            answer(reader, line.strip())


def answer(reader: NvmlReader, request: str) -> None:
    try:
        answered = reader.scan() if request == "scan" else reader.sample()
        say(msgspec.json.encode(answered).decode())
    except NvmlBroken as error:
        say(f"broken {error}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
