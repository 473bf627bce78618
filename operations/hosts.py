"""
Manage the names of a cluster's hosts in /etc/hosts.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from netaddr import AddrFormatError, IPAddress
from pyinfra import logger
from pyinfra.api import OperationError, OperationValueError, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import discovering, read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.hosts import SSH, Hosts, HostsFile, HostsLine, Reachable, hosts_lines
from pyinfra_kube.operations.files import File, plan_files

PATH = "/etc/hosts"

# nscd and systemd-resolved cache answers, so they get 5 seconds.
_CHECK = """\
gives() {
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    said=$(getent ahostsv4 "$1" | awk '{ print $1 }' | sort -u)
    if [ -n "$said" ] && ! printf '%s\\n' "$said" | grep -qvxE "$3"; then return 0; fi
    sleep 0.5
  done
  echo "$1 is" ${said:-unknown} "here, not $2, and not by /etc/hosts: see its sources, hosts:" \
    "in /etc/nsswitch.conf; correct it where it comes from, or have files come first" >&2
  exit 1
}
"""


@operation()
def hosts(
    entries: Mapping[str, str],
    present: bool = True,
    unless_resolved: bool = False,
    marker: str = "kubernetes cluster",
) -> Generator[StringCommand, None, None]:
    """
    Manage names in /etc/hosts, in a marked block. Every other byte of the file stays.

    A name that another line gives the right address is left out of the block. Where another line
    gives a wrong address, the block goes before it if the first line wins. If every line counts,
    an error names that line. A host's own name may have any of the host's addresses, such as
    Debian's 127.0.1.1. In the end the host resolves each name, and the operation fails where one
    has another address.

    + entries: IPv4 address by host name; a name that is an address needs no line
    + present: whether the block must exist
    + unless_resolved: leave out a name for which DNS gives the right address, unless the block has
      it already
    + marker: text of the block's first and last line

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import hosts

        hosts.hosts(
            name="Set the hosts' names in /etc/hosts",
            entries={"kube-master": "192.0.2.11", "kube-node-1": "192.0.2.12"},
            unless_resolved=True,
        )
    """

    _check(tuple((name, str(address)) for name, address in entries.items()))
    # An address is its own name.
    entries = {name: address for name, address in entries.items() if name != address}
    found = read(Hosts, names=list(entries) if present else [], marker=marker)
    readable = replace(found, text=_ended(found.text, entries)) if present else found
    names = _Names(readable, marker, entries)
    resolved = found.resolved if unless_resolved else {}
    wanted = {
        name: address
        for name, address in entries.items()
        if present and names.needs(name, resolved.get(name, ()))
    }
    text = names.text_with(wanted)
    if present:
        wrong = names.wrong(settled=text == found.text)
        if wrong:
            raise OperationError("; ".join(wrong))
        names.say(wanted)
    content = text.encode(errors="surrogateescape")
    script = plan_files([File(PATH, content, keep=True)]) if text != found.text else None
    if script and present and found.sources is not None:
        script = join([script, names.check()])
    yield from run_or_noop(script, f"{PATH} is as wanted")


@operation()
def reachable(
    addresses: Mapping[str, str], ports: Mapping[str, Sequence[int]] | None = None
) -> Generator[StringCommand, None, None]:
    """
    Check that this host reaches others. It changes nothing.

    Another host is reached if it answers a ping, or a connection to a TCP port, even by refusing
    it. Raises an error that names every host without an answer, and what was tried. A host without
    a tool that tries ports checks nothing.

    + addresses: IPv4 address by host name
    + ports: TCP ports to try, by host name; by default 22

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import hosts

        hosts.reachable(
            name="Check that the hosts reach each other",
            addresses={"kube-master": "192.0.2.11"},
            ports={"kube-master": [6443, 22]},
        )
    """

    tried = {name: list((ports or {}).get(name, [SSH])) for name in addresses}
    answers = read(
        Reachable,
        addresses=list(addresses.values()),
        ports={address: tried[name] for name, address in addresses.items()},
    )
    silent = [name for name, address in addresses.items() if answers.get(address) is False]
    if silent:
        named = ", ".join(f"{name} ({addresses[name]})" for name in silent)
        ports_tried = "; ".join(f"{name}: {', '.join(map(str, tried[name]))}" for name in silent)
        raise OperationError(
            f"it does not reach {named}; no answer to a ping, nor at these TCP ports: "
            f"{ports_tried}. Check the addresses, and that a firewall lets it through to one of "
            "these ports"
        )
    ctx_host.get().noop("every host is reachable")
    yield from ()


# The same on all hosts.
@lru_cache
def _check(entries: tuple[tuple[str, str], ...]) -> None:
    for name, address in entries:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name):
            raise OperationValueError(f"entries: {name!r} is not a host name")
        try:
            version = IPAddress(address).version
        except (AddrFormatError, ValueError):
            version = None
        if version != 4:
            raise OperationValueError(f"entries: {name}: {address!r} is not an IPv4 address")
    small = Counter(name.lower() for name, _ in entries)
    if twice := next((name for name, _ in entries if small[name.lower()] > 1), None):
        raise OperationValueError(f"entries: {twice!r} is there twice: names have no case")


def _parts(text: str, marker: str) -> tuple[str, str, str]:
    """The lines before the block, in it, and after it."""

    begin, end = (rf"^# {word} {re.escape(marker)}\r*$" for word in ("BEGIN", "END"))
    # A block without its end is no block: the lines after it may be somebody else's.
    match = re.search(rf"{begin}\n((?:(?!{begin}).*\n)*?){end}\n?", text, re.M)
    if not match:
        return text, "", ""
    return text[: match.start()], match[1], text[match.end() :]


def _ended(text: str, names: Iterable[str]) -> str:
    """The text; with an end, where glibc misreads names of ours in a last line without one."""

    ended = f"{text}\n"
    anew = {name for line in {*hosts_lines(ended)} - {*hosts_lines(text)} for name in line.names}
    return ended if anew.intersection(map(str.lower, names)) else text


@dataclass
class _Names:
    """
    What /etc/hosts and the other sources say about the wanted names.

    + found: the fact
    + marker: of the block
    + entries: address by name
    """

    found: HostsFile
    marker: str
    entries: Mapping[str, str]

    def __post_init__(self) -> None:
        self.before, self.block, self.after = _parts(self.found.text, self.marker)
        self.called = {name.lower(): name for name in self.entries}
        self._said: dict[str, list[str]] = {}
        for line, name in self.others:
            self._said.setdefault(name, []).append(line.address)
        self.ours = {name for line in hosts_lines(self.block) for name in line.names}

    @cached_property
    def others(self) -> list[tuple[HostsLine, str]]:
        """The lines outside of the block that name them, each with the name."""

        return list(self._others())

    def _others(self) -> Iterator[tuple[HostsLine, str]]:
        after = self.found.text.count("\n") - self.after.count("\n")
        for text, start in ((self.before, 0), (self.after, after)):
            for line in hosts_lines(text):
                for name in dict.fromkeys(self.called.get(name) for name in line.names):
                    if name:
                        yield line._replace(number=start + line.number), name

    def needs(self, name: str, resolved: Collection[str]) -> bool:
        """Whether the block must name it."""

        known = [address for address in self._said.get(name, ()) if _counts(address)]
        if known:
            return not self.right(name, known if self.found.multi else known[:1])
        return name.lower() in self.ours or self.entries[name] not in resolved

    def right(self, name: str, addresses: Iterable[str]) -> bool:
        """Whether a program that wants IPv4 finds the address, and no wrong one."""

        known = [address for address in addresses if _counts(address)]
        return bool(known) and all(self.is_allowed(name, address) for address in known)

    def is_allowed(self, name: str, address: str) -> bool:
        """A host's own name may have any of its addresses, and those of its loopback."""

        wanted, own = self.entries[name], self.found.own
        return address == wanted or (wanted in own and (address in own or _is_loopback(address)))

    def wrong(self, settled: bool) -> list[str]:
        """
        What contradicts the wanted addresses: lines, and sources that come before the file.

        + settled: whether the file is as wanted, so that what programs get now is final
        """

        found = [
            f"{PATH}:{line.number} gives {name} the address {line.address}, not "
            f"{self.entries[name]}: take the name out of that line, or correct it"
            for line, name in self.others
            if self.is_in_the_way(line) and not self.is_allowed(name, line.address)
        ]
        if found or self.found.sources is None:
            return found
        # Where nobody asks the file, it changes nothing.
        sources = self.found.sources.split() or ["files"]
        stays = settled or not {"files", "resolve"}.intersection(sources)
        said = self.found.answers if stays else self.found.early
        asked = self.entries if stays else said
        return [
            f"{name} is {', '.join(said.get(name, ())) or 'unknown'} here, not "
            f"{self.entries[name]}, and not by {PATH} (/etc/nsswitch.conf: hosts: "
            f"{self.found.sources}); correct it where it comes from, or have files come first"
            for name in asked
            if not self.right(name, said.get(name, ()))
            and (said.get(name) or name not in self.found.late)
        ]

    def is_in_the_way(self, line: HostsLine) -> bool:
        """Whether it wins over the block: programs take all lines, or prefer IPv6."""

        return _counts(line.address) and (line.is_ipv6 or self.found.multi)

    def say(self, wanted: Mapping[str, str]) -> None:
        """Say, once a run, which surprising lines stay."""

        if ctx_state.get().is_executing or discovering():
            return
        log = ctx_host.get().log
        for line, name in self.others:
            said = f"{PATH}:{line.number} gives {name} the address {line.address}"
            if _is_loopback(line.address):
                changes.show(f"{said}; it stays, for it is the host itself")
            elif not _counts(line.address):
                log(f"{said} too, which programs may try first", logger.warning)
        if wanted and re.search(r"^#.*manage_etc_hosts.*\bTrue\b", self.found.text, re.M):
            fix = "set manage_etc_hosts: false in /etc/cloud/cloud.cfg.d/, and delete that comment"
            log(f"cloud-init makes {PATH} anew at boot, without our names: {fix}", logger.warning)

    def check(self) -> Script:
        """The script that resolves each name, and fails where one has another address."""

        calls = []
        for name, address in self.entries.items():
            allowed = [address]
            if address in self.found.own:
                allowed += [*sorted(self.found.own - {address}), "127."]
            pattern = "|".join(map(re.escape, allowed)) + (".*" if len(allowed) > 1 else "")
            calls.append(f"gives {shlex.join([name, address, pattern])}\n")
        return Script(_CHECK + "".join(calls), "see that each name leads there")

    def text_with(self, wanted: Mapping[str, str]) -> str:
        """The file with these names in the block."""

        if not wanted:
            return self.before + self.after
        block = render(f"{PATH[1:]}.j2", marker=self.marker, entries=wanted)
        named = {name for line in hosts_lines(self.before) for name in line.names}
        if {name.lower() for name in wanted} & named:
            return block + self.before + self.after
        before = self.before
        return before + ("" if before.endswith("\n") or not before else "\n") + block + self.after


def _counts(address: str) -> bool:
    """Whether a program that wants IPv4 gets it: ::1 becomes 127.0.0.1."""

    return ":" not in address or address == "::1"


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")
