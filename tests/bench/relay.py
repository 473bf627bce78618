"""
A far away network on this machine: a door for each host, behind which every packet waits.

    python -m tests.bench.relay 0.025 2200=192.0.2.10 2201=192.0.2.11
"""

from __future__ import annotations

import asyncio
import functools
import sys
from contextlib import suppress

_CHUNK = 1 << 16
# Enough under way for any throughput that matters, so that only time is lost, not bandwidth.
_UNDER_WAY = 1 << 10


async def main(delay: float, doors: dict[int, str]) -> None:
    """
    Relay until killed.

    + delay: seconds that a packet takes, each way
    + doors: port on 127.0.0.1 → address whose port 22 is behind it
    """

    async def enter(
        address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # As long as a connection takes to be made.
        await asyncio.sleep(2 * delay)
        behind_reader, behind_writer = await asyncio.open_connection(address, 22)
        await asyncio.gather(
            _carry(reader, behind_writer, delay), _carry(behind_reader, writer, delay)
        )

    for port, address in doors.items():
        await asyncio.start_server(functools.partial(enter, address), "127.0.0.1", port)
    print("open", flush=True)
    await asyncio.Event().wait()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Carry bytes one way, each chunk as much later as it is far, in their order."""

    clock = asyncio.get_running_loop().time
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)

    async def deliver() -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(due - clock())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    delivery = asyncio.ensure_future(deliver())
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            await queue.put((clock() + delay, data))
    await queue.put((clock() + delay, b""))
    with suppress(ConnectionError):
        await delivery


if __name__ == "__main__":
    pairs = (word.partition("=") for word in sys.argv[2:])
    asyncio.run(main(float(sys.argv[1]), {int(port): address for port, _, address in pairs}))
