"""One parser under atheris, which looks for inputs that reach new code.

python -m fuzz.guided NAME RUNS FOLDER

Ends with a code that is not zero at the first input that is neither taken nor refused; FOLDER keeps it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gpusched", "yaml", "pydantic"]):
    from parsers import PARSERS, WORDS

SEED = 7
LONGEST_BYTES = 400
SLOWEST_S = 10


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def main() -> None:
    """Run; libFuzzer ends the process."""
    name, runs, folder = sys.argv[1:]
    words = Path(folder) / "words"
    written = (word.encode("utf-8", "surrogatepass") for word in WORDS)
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in written))
    options = (
        f"-runs={runs}",
        "-seed=7",
        f"-max_len={LONGEST_BYTES}",
        f"-timeout={SLOWEST_S}",
        f"-dict={words}",
    )
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/"], PARSERS[name].takes)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
