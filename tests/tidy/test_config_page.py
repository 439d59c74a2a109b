"""The configuration page says what the code does: every key, its default, and an example that loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from gpusched.daemon.config import HeadConfig, load_config

PAGE = (Path(__file__).parents[2] / "docs/reference/config.md").read_text(encoding="utf-8")


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Every leaf key with its default as TOML."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        inner = next((t for t in (field.annotation, *get_args(field.annotation)) if _is_table(t)), None)
        if inner is not None:
            found |= keys(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = "required" if field.is_required() else _toml(field.default)
    return found


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _toml(value: object) -> str:
    match value:
        case None:
            return "none"
        case str():
            return f'`"{value}"`'
        case list():
            return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
        case _:
            return f"`{value}`"


def test_the_page_lists_exactly_the_keys_and_defaults_of_the_code():
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (\S+) \|", PAGE, re.MULTILINE))
    assert rows == keys(HeadConfig)


def test_the_example_on_the_page_loads(tmp_path):
    file = tmp_path / "head.toml"
    file.write_text(re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1])
    config = load_config(file)
    assert config.cluster == "lab"
    assert [rate.model for rate in config.rate_book.rates] == ["H100", "*"]
    assert str(config.rate_book.rates[0].per_gpu_hour) == "2.40"
