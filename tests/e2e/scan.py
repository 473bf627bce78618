"""
Print each port at which an address takes a TCP connection. Run as a file, in any network namespace:

    nsenter --net=/proc/PID/ns/net python tests/e2e/scan.py 192.0.2.10 192.0.2.11
"""

from __future__ import annotations

import socket
import sys


def main(addresses: list[str]) -> None:
    for address in addresses:
        for port in range(1, 65536):
            with socket.socket() as asking:
                asking.settimeout(1)
                if asking.connect_ex((address, port)) == 0 and not _itself(asking):
                    print(address, port)


def _itself(asking: socket.socket) -> bool:
    """Whether a connection to this very address took its own port by chance, and met itself."""
    return asking.getsockname() == asking.getpeername()


if __name__ == "__main__":
    main(sys.argv[1:])
