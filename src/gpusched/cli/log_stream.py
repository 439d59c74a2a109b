"""Chunks of many ranks to one readable stream: whole lines, a prefix per rank, nothing lost at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gpusched.cli.quantities import show_size
from gpusched.domain.logs import LogChunk

HELD_BYTES_MAX = 64 << 10  # of an unfinished line; then it is shown in parts
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # SGR foregrounds


def dropped_mark(chunk: LogChunk) -> bytes:
    """The line that stands where output was lost."""
    size = show_size(chunk.dropped_bytes)
    return f"[gpusched: {size} of rank {chunk.global_rank}'s output dropped here]\n".encode()


def single(chunks: Iterable[LogChunk]) -> Iterator[bytes]:
    """One rank: its bytes as they are, with marks where some were dropped."""
    at_line_start = True
    for chunk in chunks:
        if chunk.dropped_bytes:
            yield (b"" if at_line_start else b"\n") + dropped_mark(chunk)
            at_line_start = True
        if chunk.data:
            yield chunk.data
            at_line_start = chunk.data.endswith(b"\n")


@dataclass(slots=True)
class Merger:
    """Many ranks: ``[rank]`` before each line.

    Bytes wait until their line ends, so lines of two ranks and the bytes of one character never
    mix. A carriage return ends a line too: a progress bar overprints itself, prefix included.
    """

    width: int  # digits of the largest rank
    is_coloured: bool
    _held: dict[int, bytes] = field(default_factory=dict)
    _unfinished: int | None = None  # the rank whose line stands on the screen without its newline
    _is_overprinting: bool = False  # and ended with a carriage return: the next text starts over

    def feed(self, chunk: LogChunk) -> bytes:
        """What can be shown now that ``chunk`` is here."""
        rank = chunk.global_rank
        out = b""
        if chunk.dropped_bytes:
            out += self._flush(rank) + self._fresh_line() + self._prefix(rank) + dropped_mark(chunk)
        held = self._held.pop(rank, b"") + chunk.data
        while (end := _line_end(held)) > 0:
            out += self._show(rank, held[:end])
            held = held[end:]
        if len(held) > HELD_BYTES_MAX:
            cut = _character_boundary(held)
            out += self._show(rank, held[:cut])
            held = held[cut:]
        if held:
            self._held[rank] = held
        return out + self._flush(rank) if chunk.is_last else out

    def finish(self) -> bytes:
        """The unfinished lines of all ranks, and an end to the last line."""
        out = b"".join(self._flush(rank) for rank in sorted(self._held))
        return out + self._fresh_line()

    def _flush(self, rank: int) -> bytes:
        held = self._held.pop(rank, b"")
        return self._show(rank, held) if held else b""

    def _show(self, rank: int, text: bytes) -> bytes:
        goes_on = self._unfinished == rank
        if text == b"\r" and not goes_on:
            return b""  # many a progress bar begins with it; at the start of a line it does nothing
        before = b"" if goes_on else self._fresh_line()
        prefix = b"" if goes_on and not self._is_overprinting else self._prefix(rank)
        self._is_overprinting = text.endswith(b"\r")
        self._unfinished = None if text.endswith(b"\n") else rank
        return before + prefix + text

    def _fresh_line(self) -> bytes:
        is_open, self._unfinished, self._is_overprinting = self._unfinished is not None, None, False
        return b"\n" if is_open else b""

    def _prefix(self, rank: int) -> bytes:
        label = f"[{rank:>{self.width}}]"
        if self.is_coloured:
            label = f"\x1b[{_COLOURS[rank % len(_COLOURS)]}m{label}\x1b[0m"
        return f"{label} ".encode()


def _line_end(held: bytes) -> int:
    """Length of the first line with its end; 0 if there is none yet."""
    newline = held.find(b"\n")
    limit = newline if newline >= 0 else len(held)
    carriage = held.find(b"\r", 0, limit)
    # A return that is the newest byte may be half of "\r\n"; one just before a newline is.
    if carriage < 0 or carriage in {newline - 1, len(held) - 1}:
        return newline + 1
    return carriage + 1


def _character_boundary(held: bytes) -> int:
    """Length of the longest start of ``held`` that does not end inside a UTF-8 character."""
    for back in range(1, min(4, len(held))):
        byte = held[-back]
        if byte >= 0xC0:  # a lead byte: its character needs 2 to 4 bytes
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(held) - back if back < needed else len(held)
        if byte < 0x80:
            break
    return len(held)
