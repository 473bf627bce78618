"""A receiver of logs: OTLP over HTTP, on this machine."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LogReceiver:
    """
    What collectors send. Each request is of one collector.

    + address: where it listens, while it is started
    """

    def __init__(self, address: str) -> None:
        self.place = (address, 4318)
        self.taken: list[bytes] = []
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.place)

    def start(self) -> None:
        taken = self.taken

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                packed = self.headers.get("Content-Encoding") == "gzip"
                taken.append(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(self.place, Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def has(self, node: str, word: str) -> bool:
        """Whether a node's collector has sent a word, and said whose it is."""
        return any(word.encode() in one and node.encode() in one for one in self.taken)
