"""S7: texts that do something where they are pasted into a shell, SQL, a format, a log or a terminal.

Each kernel that acts stands in each frame that could carry it out of the place where it is text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# ``{c}`` is the canary: a file that must never appear.
SHELL = (
    "$(touch {c})",
    "`touch {c}`",
    ";touch {c};",
    "|touch {c}",
    "||touch {c}||",
    "&&touch {c}&&",
    "&touch {c}&",
    "\ntouch {c}\n",
    "\r\ntouch {c}\r\n",
    "<(touch {c})",
    ">{c}",
    ">>{c}",
    "${{x:=$(touch {c})}}",
    "$((a[$(touch {c})]))",
    "a[$(touch {c})]",
    "{{touch,{c}}}",
    "$'\\x60touch {c}\\x60'",
    "() {{ :;}}; touch {c}",
    "BASH_FUNC_ls%%=() {{ touch {c}; }}",
    "!touch {c}",
    "~root",
    "*",
    "$PATH",
)
LAUNCH = (
    "\n#SBATCH --wrap='touch {c}'\n",
    "\n#SBATCH --prolog={c}\n",
    "\n#GPUSCHED --setup='touch {c}'\n",
    "LD_PRELOAD={c}",
    "LD_AUDIT={c}",
    "PYTHONPATH={c}",
    "PYTHONSTARTUP={c}",
    "BASH_ENV=$(touch {c})",
    "PROMPT_COMMAND=touch {c}",
    "PS4=$(touch {c})",
    "IFS=/",
    "GCONV_PATH={c}",
    "-rf",
    "--config={c}",
    "@{c}",
    "file://{c}",
    "../../../../../..{c}",
    "/proc/self/environ",
    "{{script}}",
)
SQL = (
    "'; DROP TABLE jobs; --",
    "' OR '1'='1",
    '"; DELETE FROM events; --',
    "') UNION SELECT * FROM requests --",
    "'; ATTACH DATABASE '{c}' AS x; --",
    "'; VACUUM INTO '{c}'; --",
    "'; PRAGMA writable_schema=1; --",
    "'; COPY jobs TO PROGRAM 'touch {c}'; --",
    "%'; UPDATE jobs SET state='COMPLETED'; --",
    ":job_id",
    "?1",
    "%_",
)
FORMATS = (
    "%s%s%s%n",
    "%(message)s%(nothing)s",
    "{{0.__class__.__init__.__globals__}}",
    "{{self}}",
    "${{jndi:ldap://x}}",
    "[red]x[/red][link=file://{c}]y[/link]",
    "<script>touch('{c}')</script>",
    "=cmd|'touch {c}'!A0",
    "!!python/object/apply:os.system ['touch {c}']",
    "__import__('os').system('touch {c}')",
    "cos\nsystem\n(S'touch {c}'\ntR.",
)
SCREENS = (
    "\x1b[2J\x1b[H",
    "\x1b]0;owned\x07",
    "\x1b]52;c;dG91Y2g=\x07",
    "\x1bP+q544e\x1b\\",
    "\x9b2J",
    "\x07\x08\x7f",
    "\r2026-01-01 00:00:00,000 head INFO forged",
    "\n2026-01-01 00:00:00,000 head INFO forged\n",
    "\0",
    "\u202egpj.exe",
    "\u2066x\u2069",
    "\u200b",
    "\u2028forged\u2029",
    "\x85forged",
    "\ufeff",
)
KERNELS = (*SHELL, *LAUNCH, *SQL, *FORMATS, *SCREENS)
FRAMES = (
    "{}",
    "x{}",
    "{}x",
    "'{}",
    '"{}',
    "'{}'",
    '"{}"',
    "\\{}",
    "\\'{}",
    "x;{}",
    "x\n{}",
    "{}\n",
    "-{}",
    "--name={}",
    "$({})",
    "`{}`",
    "${{{}}}",
    "LD_PRELOAD={}",
    "PYTHONPATH={}",
    "BASH_ENV={}",
    "#SBATCH --job-name={}",
    "\n#SBATCH --wrap={}\n",
    "%s{}",
    "\u202e{}",
    "\x1b]0;{}\x07",
    "\0{}",
    "/tmp/{}",
    "../{}",
    "n1,{}",
    "{} #",
    "a={}",
    "🦙{}",
)


def payloads(canary: Path) -> tuple[str, ...]:
    """Every kernel in every frame, each once."""
    made = (frame.format(kernel.format(c=canary)) for kernel, frame in product(KERNELS, FRAMES))
    return tuple(dict.fromkeys(made))


def spread(texts: Sequence[T], count: int) -> tuple[T, ...]:
    """About ``count`` of them, evenly; an odd step, so that every frame comes by."""
    return tuple(texts[:: max(1, len(texts) // max(count, 1)) | 1])
