"""A network that fails on command: forwards a unix socket to another, and cuts every connection when told."""

from __future__ import annotations

import asyncio
from pathlib import Path


class CuttingProxy:
    """Listens on ``path``, forwards to ``target``."""

    def __init__(self, path: Path, target: Path) -> None:
        self._path, self._target = path, target
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.address = f"unix://{path}"

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_unix_server(self._forward, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset what is connected: bytes on the way are lost, the head is told nothing."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._target)
        self._writers += [writer, back]
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
