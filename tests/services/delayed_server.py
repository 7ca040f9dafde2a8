"""An HTTP server with known delays, which prints its port: `delayed_server.py [--delay S] [--stall COUNT:S]
[--tls FILE]`.

Every POST is answered after the delay. With --stall, nothing is answered for S seconds once COUNT requests
have come. The path says more: `/busy` is a 503, `/close` ends the connection, `/never` has no answer, and
after `/once` the server closes. Which phases took how long, and who answered, is made up. The file has a
certificate and its key.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import ssl

HEADERS = "x-worker: w1\r\nx-cache: hit\r\nserver-timing: queue;dur=1.5, infer;dur=2"


class Server:
    def __init__(self, delay: float, stall: tuple[int, float] | None) -> None:
        self.delay = delay
        self.stall = stall
        self.count = 0
        self.silent_until = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(re.findall(r"(?i)content-length: (\d+)", head)[0]))
                if not await self.answer(head.split()[1], writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        self.count += 1
        loop = asyncio.get_running_loop()
        if self.stall and self.count == self.stall[0]:
            self.silent_until = loop.time() + self.stall[1]
        await asyncio.sleep(max(self.delay, self.silent_until - loop.time()))
        if path == "/close":
            return False
        if path == "/never":
            await asyncio.sleep(60)
        status = "503 Service Unavailable" if path == "/busy" else "200 OK"
        end = "\r\nconnection: close" if path == "/once" else ""
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 2\r\n{HEADERS}{end}\r\n\r\n{{}}".encode())
        return path != "/once"


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--stall")
    parser.add_argument("--tls")
    given = parser.parse_args()
    count, _, seconds = (given.stall or "").partition(":")
    server = Server(given.delay, (int(count), float(seconds)) if count else None)
    context = None
    if given.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.tls)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=512, ssl=context)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
