"""Uploads are raw bodies: they stream into a temporary file, never further than the cap."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from farm.api.context import Context
from farm.core.errors import TooLarge

_CHUNK = 1 << 20

RAW_BODY: dict[str, Any] = {
    "requestBody": {
        "description": "The file itself.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""For OpenAPI, which cannot guess that a route reads its body as it comes."""


@asynccontextmanager
async def received(request: Request, ctx: Context, *, cap: int, code: str = "too_large") -> AsyncIterator[Path]:
    """The body as a file that is gone afterwards. Raises `TooLarge` with *code*."""
    _check_declared(request, cap, code)
    with tempfile.TemporaryDirectory(prefix="halftone-upload-") as folder:
        path, taken = Path(folder, "body"), 0
        with path.open("wb") as file:  # noqa: ASYNC230  (opening is quick; the writes go to a thread)
            waiting = bytearray()
            async for chunk in request.stream():
                taken += len(chunk)
                if taken > cap:
                    raise _too_large(cap, code)
                waiting += chunk
                if len(waiting) >= _CHUNK:
                    await run_in_threadpool(file.write, bytes(waiting))
                    waiting.clear()
            await run_in_threadpool(file.write, bytes(waiting))
        ctx.metrics.uploaded.inc(taken)
        yield path


def _check_declared(request: Request, cap: int, code: str) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:19]) > cap:
        raise _too_large(cap, code)


def _too_large(cap: int, code: str) -> TooLarge:
    return TooLarge(f"The file is larger than {cap // 2**20} MiB.", code=code)
