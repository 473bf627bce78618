"""Where clients reach the control plane: an address or a name, and perhaps a port."""

from __future__ import annotations

import re
from typing import NamedTuple

from pyinfra_kube.cluster.errors import Wrong
from pyinfra_kube.cluster.networks import DNS_NAME, parse_address

ENDPOINT = 'host or host:port, such as "192.168.10.4", "192.168.10.4:6443" or "k8s.example.com:443"'


class Endpoint(NamedTuple):
    """
    + host: an IPv4 address or a DNS name
    + port: of the apiserver, or of what leads there
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def address(self) -> str | None:
        """The host, where that is an address."""
        return self.host if _is_numeric(self.host) else None


def parse_endpoint(text: str, port: int = 0) -> Endpoint:
    """
    Read an endpoint.

    + text: ``host`` or ``host:port``; the host is an IPv4 address or a DNS name
    + port: where the text names none

    Raises ``Wrong`` with the right text as its fix, where there is one.

    ```
    >>> parse_endpoint("k8s.example.com", 6443)
    Endpoint(host='k8s.example.com', port=6443)
    ```
    """
    if url := re.fullmatch(r"[A-Za-z]+://([^/?#]*).*", text, re.DOTALL):
        raise Wrong(f"{ENDPOINT}, without a scheme", _write(url[1]))
    if text.startswith("[") or text.count(":") > 1:
        raise Wrong(f"{ENDPOINT} (IPv6 is not built here)")
    host, colon, given = text.partition(":")
    if _is_numeric(host):
        parse_address(host)
    elif not re.fullmatch(DNS_NAME, host):
        better = host.rstrip(".").lower()
        raise Wrong(ENDPOINT, _write(f"{better}{colon}{given}") if better != host else None)
    elif host.split(".")[0] == "localhost":
        raise Wrong(f"{ENDPOINT}, which other hosts can reach ({host} is each host itself)")
    if not colon:
        return Endpoint(host, port)
    if not re.fullmatch(r"[1-9][0-9]{0,4}", given) or int(given) > 65535:
        number = re.sub("[^0-9].*", "", given, flags=re.DOTALL)
        port_stays = _write(f"{host}:{number}") if number != given else None
        raise Wrong(f"{ENDPOINT}, with a port from 1 to 65535", port_stays or _write(host))
    return Endpoint(host, int(given))


def _is_numeric(host: str) -> bool:
    """Whether a host is written as an address is; no DNS name ends in a number."""
    return bool(re.fullmatch(r"([^.]*\.)*[0-9]+", host))


def _write(text: str) -> str | None:
    """What to write instead, where that is right itself."""
    try:
        parse_endpoint(text)
    except Wrong:
        return None
    return f'write "{text}"'
