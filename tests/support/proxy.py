"""A TCP proxy whose connections can be cut, delayed, or made to lose what they carry."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from enum import Enum
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"
_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # lingering for no time: closing sends RST, not FIN

Address = tuple[str, int]


class Fault(Enum):
    """What becomes of bytes on their way."""

    NONE = "none"
    CUT = "cut"  # connections are reset, new ones too
    SILENT = "silent"  # half open: connections stand, new ones are taken, and nothing gets through
    NO_REPLY = "no_reply"  # what is asked arrives, what is answered does not


class _Link:
    """One connection. *spoiled* means that bytes of it were lost: it can never be right again."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.near = near
        self.far: asyncio.StreamWriter | None = None
        self.spoiled = False

    def reset(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None and not writer.transport.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()


class Proxy:
    """Listens on `port` and passes on to *target*, which is asked for each connection: a server may come back
    elsewhere. A thread of its own does the work; every method returns once the fault holds."""

    def __init__(self, target: Callable[[], Address]) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._links: set[_Link] = set()
        self._fault, self._delay = Fault.NONE, 0.0
        self._bytes = 0
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, HOST, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def bytes(self) -> int:
        """That came in from either side so far, lost or not."""
        return self._bytes

    def cut(self) -> None:
        self._do(self._set(Fault.CUT))

    def silence(self) -> None:
        self._do(self._set(Fault.SILENT))

    def drop_replies(self) -> None:
        self._do(self._set(Fault.NO_REPLY))

    def delay(self, seconds: float) -> None:
        """Of each piece, in both directions."""
        self._do(self._set(Fault.NONE, seconds))

    def restore(self) -> None:
        """Connections that lost bytes are reset, as a host does that knows nothing of them any more."""
        self._do(self._set(Fault.NONE))

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(20)

    async def _set(self, fault: Fault, delay: float = 0.0) -> None:
        self._fault, self._delay = fault, delay
        for link in list(self._links):
            if fault is Fault.CUT or (fault is Fault.NONE and link.spoiled):
                link.reset()

    async def _close(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.reset()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            if self._fault is not Fault.CUT:
                await self._pass_on(link, reader)
        except OSError:  # one of the two is gone, and with it the link
            pass
        finally:
            link.reset()
            self._links.discard(link)

    async def _pass_on(self, link: _Link, near: asyncio.StreamReader) -> None:
        far, link.far = await asyncio.open_connection(*self._target())
        ways = [
            asyncio.create_task(self._copy(link, near, link.far, Fault.SILENT)),
            asyncio.create_task(self._copy(link, far, link.near, Fault.SILENT, Fault.NO_REPLY)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _copy(self, link: _Link, source: asyncio.StreamReader, to: asyncio.StreamWriter, *lose: Fault) -> None:
        while data := await source.read(_CHUNK):
            self._bytes += len(data)
            if self._delay:
                await asyncio.sleep(self._delay)
            if link.spoiled and self._fault is Fault.NONE:
                return
            if self._fault in lose:
                link.spoiled = True
            elif not link.spoiled or self._fault is Fault.NO_REPLY:
                to.write(data)
                await to.drain()
