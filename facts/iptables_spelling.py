"""
How the options of iptables rules are spelled, so that two spellings of one option compare equal.

iptables-save does not print what a person writes: addresses gain a prefix length, names become
numbers, options change their order, defaults appear or vanish. ``_SPELLINGS`` and ``_DEFAULTS`` say
how. An option of a module that they do not name is compared by its text.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial

from netaddr import AddrFormatError, IPNetwork


@dataclass(frozen=True, order=True)
class Option:
    """
    One option of a rule, in canonical spelling.

    + module: the match or target that it belongs to; empty for ``-s``, ``-d``, ``-p`` …
    + name: as iptables-save prints it
    + negated: whether ``!`` stands before it
    + values: its arguments
    """

    module: str
    name: str
    negated: bool
    values: tuple[str, ...]


Spelled = tuple[bool, tuple[str, ...]]
Speller = Callable[[bool, tuple[str, ...]], Spelled]


def _table(text: str) -> dict[str, str]:
    """``"6 tcp, 17 udp"`` → ``{"6": "tcp", "17": "udp"}``."""

    pairs = (pair.split() for pair in text.split(","))
    return {pair[0]: pair[1] for pair in pairs}


_PROTOCOLS = _table(
    "0 all, 1 icmp, 2 igmp, 4 ipencap, 6 tcp, 17 udp, 33 dccp, 41 ipv6, 47 gre, 50 esp, 51 ah, "
    "58 ipv6-icmp, 89 ospf, 103 pim, 108 ipcomp, 112 vrrp, 115 l2tp, 132 sctp, 136 udplite, "
    "icmpv6 ipv6-icmp"
)
_ICMP_TYPES = _table(
    "echo-reply 0, pong 0, destination-unreachable 3, network-unreachable 3/0, "
    "host-unreachable 3/1, protocol-unreachable 3/2, port-unreachable 3/3, "
    "fragmentation-needed 3/4, source-quench 4, redirect 5, echo-request 8, ping 8, "
    "router-advertisement 9, router-solicitation 10, time-exceeded 11, ttl-exceeded 11, "
    "parameter-problem 12, timestamp-request 13, timestamp-reply 14"
)
_REJECTIONS = _table(
    "net-unreach icmp-net-unreachable, host-unreach icmp-host-unreachable, "
    "proto-unreach icmp-proto-unreachable, port-unreach icmp-port-unreachable, "
    "net-prohib icmp-net-prohibited, host-prohib icmp-host-prohibited, "
    "admin-prohib icmp-admin-prohibited, tcp-rst tcp-reset"
)
_LOG_LEVELS = _table(
    "emerg 0, panic 0, alert 1, crit 2, err 3, error 3, warning 4, warn 4, notice 5, info 6, "
    "debug 7"
)
_TCP_FLAGS = {"ALL": "ACK,FIN,PSH,RST,SYN,URG"}
_ALL_BITS = 0xFFFFFFFF


def _by(function: Callable[[str], str]) -> Speller:
    return lambda negated, values: (negated, tuple(map(function, values)))


def _named(names: dict[str, str]) -> Speller:
    return _by(lambda value: names.get(value.lower(), value.lower()))


def _sorted(value: str) -> str:
    return ",".join(sorted(set(value.upper().split(","))))


def _same(negated: bool, values: tuple[str, ...]) -> Spelled:
    return negated, values


def one_network(values: tuple[str, ...]) -> None:
    """
    Raise ``ValueError`` unless the values of ``-s`` or ``-d`` are one address or network.

    + values: of the option
    """

    try:
        IPNetwork(values[0])
    except (AddrFormatError, ValueError, IndexError):
        if values and re.fullmatch(r"[\d.]+/[\d.]+", values[0]):
            return
        raise ValueError(f"{' '.join(values)!r} is not one address or network") from None


def _network(value: str) -> str:
    try:
        return str(IPNetwork(value).cidr)
    except (AddrFormatError, ValueError):
        return value


def _number(value: str) -> int:
    return int(value, 8 if re.fullmatch(r"0[0-7]+", value) else 0)


def _port(value: str, fallback: str = "") -> str:
    if value.isdigit() or not value:
        return str(int(value)) if value else fallback
    try:
        return str(socket.getservbyname(value))
    except OSError:
        return value


def _port_range(value: str) -> str:
    low, colon, high = value.partition(":")
    first, last = _port(low, "0"), _port(high, "65535") if colon else _port(low)
    return first if first == last else f"{first}:{last}"


def _ports(negated: bool, values: tuple[str, ...]) -> Spelled:
    """A port or a range. nftables turns "not up to 80" into "from 81"."""

    text = _port_range(values[0])
    low, _, high = text.partition(":")
    if negated and low == "0" and high not in ("", "65535"):
        return False, (_port_range(f"{int(high) + 1}:65535"),)
    if negated and low != "0" and high == "65535":
        return False, (_port_range(f"0:{int(low) - 1}"),)
    return negated, (text,)


def _port_list(value: str) -> str:
    return ",".join(map(_port_range, value.split(",")))


def _mark(value: str) -> str:
    mark, _, mask = value.partition("/")
    bits = _number(mask) if mask else _ALL_BITS
    return hex(_number(mark)) if bits == _ALL_BITS else f"{_number(mark):#x}/{bits:#x}"


def _set_mark(kind: str, value: str) -> str:
    """The value and mask of ``--set-xmark`` with the same effect as another way to set a mark."""

    text, _, given = value.partition("/")
    mark, mask = _number(text), _number(given) if given else _ALL_BITS
    pairs = {
        "xset": (mark, mask),
        "set": (mark, mark | mask),
        "or": (mark, mark),
        "and": (0, ~mark & _ALL_BITS),
        "xor": (mark, 0),
    }
    return "{:#x}/{:#x}".format(*pairs[kind])


def _rate(value: str) -> str:
    """Ten-thousandths of a second between two packets, as the kernel keeps them."""

    count, _, unit = value.partition("/")
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[(unit or "s")[0].lower()]
    return str(10000 * seconds // int(count))


def _probability(value: str) -> str:
    return str(round(float(value) * 2**31))


def _tcp_flags(negated: bool, values: tuple[str, ...]) -> Spelled:
    """The flags that are looked at, and those that must be set; ``--syn`` has no values."""

    given = values or ("FIN,SYN,RST,ACK", "SYN")
    return negated, tuple(_sorted(_TCP_FLAGS.get(value.upper(), value)) for value in given)


# By module, how the values of each option are spelled. An option has several names: the first is
# the one that iptables-save prints.
_PORTS: dict[str, Speller] = {
    "--sport --source-port": _ports,
    "--dport --destination-port": _ports,
}
_MODULES: dict[str, dict[str, Speller]] = {
    "": {
        "-s --source --src": _by(_network),
        "-d --destination --dst": _by(_network),
        "-p --protocol --proto": _named(_PROTOCOLS),
        "-i --in-interface": _same,
        "-o --out-interface": _same,
        "-f --fragment": _same,
        "-j --jump": _same,
        "-g --goto": _same,
        "-m --match": _same,
        "-t --table": _same,
        "-4": _same,
    },
    "tcp": {**_PORTS, "--tcp-flags --syn": _tcp_flags, "--tcp-option": _same},
    "udp": _PORTS,
    "udplite": _PORTS,
    "sctp": {**_PORTS, "--chunk-types": _same},
    "dccp": _PORTS,
    "icmp": {"--icmp-type": _named(_ICMP_TYPES)},
    "multiport": {
        "--sports --source-ports --sport": _by(_port_list),
        "--dports --destination-ports --dport": _by(_port_list),
        "--ports --port": _by(_port_list),
    },
    "addrtype": {"--src-type": _by(_sorted), "--dst-type": _by(_sorted)},
    "state": {"--state": _by(_sorted)},
    "conntrack": {
        **dict.fromkeys(["--ctstate", "--ctstatus"], _by(_sorted)),
        **dict.fromkeys(["--ctorigsrc", "--ctorigdst"], _by(_network)),
        **dict.fromkeys(["--ctreplsrc", "--ctrepldst"], _by(_network)),
    },
    "mark": {"--mark": _by(_mark)},
    "connmark": {"--mark": _by(_mark)},
    "mac": {"--mac-source": _by(str.lower)},
    "limit": {"--limit": _by(_rate)},
    "statistic": {"--probability": _by(_probability)},
    "REJECT": {"--reject-with": _named(_REJECTIONS)},
    "LOG": {"--log-level": _named(_LOG_LEVELS)},
    "DNAT": {"--to-destination --to": _same},
    "SNAT": {"--to-source --to": _same},
    "REDIRECT": {"--to-ports --to-port": _same},
    "MASQUERADE": {"--to-ports --to-port": _same},
}
_SPELLINGS: dict[str, dict[str, tuple[str, Speller]]] = {
    module: {
        name: (names.split()[0], speller)
        for names, speller in options.items()
        for name in names.split()
    }
    for module, options in _MODULES.items()
}
_SPELLINGS["MARK"] = _SPELLINGS["CONNMARK"] = {
    f"--{way}-mark": ("--set-xmark", _by(partial(_set_mark, way)))
    for way in ("set", "or", "and", "xor")
} | {"--set-xmark": ("--set-xmark", _by(partial(_set_mark, "xset")))}

# Options that mean the same as none. iptables-save prints some of them and leaves out others.
_DEFAULTS = {
    *(
        (protocol, port, ("0:65535",))
        for protocol in ("tcp", "udp", "udplite", "sctp", "dccp")
        for port in ("--sport", "--dport")
    ),
    ("", "-p", ("all",)),
    ("", "-s", ("0.0.0.0/0",)),
    ("", "-d", ("0.0.0.0/0",)),
    ("", "-i", ("+",)),
    ("", "-o", ("+",)),
    ("", "-4", ()),
    ("limit", "--limit", (_rate("3/hour"),)),
    ("limit", "--limit-burst", ("5",)),
    ("hashlimit", "--hashlimit-burst", ("5",)),
    ("connlimit", "--connlimit-mask", ("32",)),
    ("connlimit", "--connlimit-saddr", ()),
    ("recent", "--name", ("DEFAULT",)),
    ("recent", "--mask", ("255.255.255.255",)),
    ("recent", "--rsource", ()),
    ("time", "--timestart", ("00:00:00",)),
    ("time", "--timestop", ("23:59:59",)),
    ("time", "--datestop", ("2038-01-19T03:14:07",)),
    ("CONNMARK", "--nfmask", ("0xffffffff",)),
    ("CONNMARK", "--ctmask", ("0xffffffff",)),
    ("TPROXY", "--on-ip", ("0.0.0.0",)),
    ("REJECT", "--reject-with", ("icmp-port-unreachable",)),
    ("LOG", "--log-level", ("4",)),
}

# The value of these may look like an option.
_TEXT_OPTIONS = ("--comment", "--log-prefix", "--nflog-prefix", "--string", "--hex-string")


def _raw_options(arguments: Iterable[str]) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    words = list(arguments)
    position = 0
    while position < len(words):
        negated = words[position] == "!"
        position += negated
        name = words[position] if position < len(words) else "!"
        position += 1
        end = position + (name in _TEXT_OPTIONS)
        while end < len(words) and not (words[end] == "!" or words[end].startswith("-")):
            end += 1
        yield negated, name, tuple(words[position:end])
        position = end


def canonical(arguments: Iterable[str]) -> tuple[Option, ...]:
    """
    Return the options of a rule in canonical spelling; those of one module are sorted.

    + arguments: of the rule, word by word
    """

    return _canonical(tuple(arguments))


# Many hosts have the same rules.
@lru_cache(maxsize=4096)
def _canonical(arguments: tuple[str, ...]) -> tuple[Option, ...]:
    raw = list(_raw_options(arguments))
    base = _SPELLINGS[""]
    protocol = next((v[0] for _, n, v in raw if n in base and base[n][0] == "-p" and v), "")
    protocol = _PROTOCOLS.get(protocol.lower(), protocol.lower())

    # Modules in the order in which they look at a packet; the same one may be there twice.
    groups: list[tuple[str, list[Option]]] = [("", [])]
    target: tuple[str, list[Option]] = ("", [])
    current = groups[0]
    for negated, name, values in raw:
        kind = base[name][0] if name in base else ""
        if kind == "-m" and values:
            current = (values[0], [])
            groups.append(current)
        elif kind in ("-j", "-g") and values:
            current = target = (values[0], [])
            groups[0][1].append(Option("", kind, negated, values))
        elif kind:
            groups[0][1].append(_spelled("", negated, name, values))
        else:
            owner = _owner(name, current, groups, protocol)
            owner[1].append(_spelled(owner[0], negated, name, values))

    return tuple(
        option
        for module, options in [*groups, target]
        for option in _settled(module, options, protocol)
    )


def _owner(
    name: str,
    current: tuple[str, list[Option]],
    groups: list[tuple[str, list[Option]]],
    protocol: str,
) -> tuple[str, list[Option]]:
    """The module that an option belongs to. That of the protocol may not have been named."""

    if name in _SPELLINGS.get(current[0], {}):
        return current
    for group in reversed(groups[1:]):
        if name in _SPELLINGS.get(group[0], {}):
            return group
    if name not in _SPELLINGS.get(protocol, {}):
        return current
    groups.append((protocol, []))
    return groups[-1]


def _spelled(module: str, negated: bool, name: str, values: tuple[str, ...]) -> Option:
    canonical, speller = _SPELLINGS.get(module, {}).get(name, (name, _same))
    # What is not understood stays as it is written.
    with suppress(ValueError, KeyError, IndexError, ZeroDivisionError):
        negated, values = speller(negated, values)
    return Option(module, canonical, negated, values)


def _settled(module: str, options: list[Option], protocol: str) -> list[Option]:
    """A module's options, without defaults, after its name: a match may need no options."""

    kept = [o for o in options if o.negated or (module, o.name, o.values) not in _DEFAULTS]
    named = module and not (module == protocol and not kept)
    return [Option(module, "", False, ())] * bool(named) + sorted(kept)
