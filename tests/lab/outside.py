"""
What is outside of the cluster: a server that answers each client with the address that it sees, and
a nameserver that knows no name.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingUDPServer
from threading import Thread


class Echo(BaseHTTPRequestHandler):
    """Answers any GET with the client's address."""

    def do_GET(self) -> None:
        body = f"{self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Nameserver(BaseRequestHandler):
    """Answers any question that there is no such name."""

    def handle(self) -> None:
        question, socket = self.request
        # A response, with recursion as wished and available: NXDOMAIN.
        flags = bytes([0x80 | question[2] & 0x79, 0x83])
        # The question again, without what else a query may have.
        name_end = question.index(0, 12)
        answer = question[:2] + flags + question[4:6] + bytes(6) + question[12 : name_end + 5]
        socket.sendto(answer, self.client_address)


if __name__ == "__main__":
    server, gateway = sys.argv[1:]
    names = ThreadingUDPServer((gateway, 53), Nameserver)
    Thread(target=names.serve_forever, daemon=True).start()
    ThreadingHTTPServer((server, 80), Echo).serve_forever()
