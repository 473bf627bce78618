"""Checks of a host by itself: what it must have, and what of the cluster runs there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.on_etcd import unwell
from pyinfra_kube.checks.readings import Host, Readings, Untold, told
from pyinfra_kube.cluster.fitness.checks import OTHER_INSTALLERS
from pyinfra_kube.cluster.fitness.holders import freeing

# Seconds that two clocks may be apart: etcd warns from one on.
_APART = 2
# kubelet's own limits of eviction.
_SPACE, _INODES, _MEMORY = 10, 5, 100
# Percent of what the kernel can tell apart.
_HELD = 95
_ASK = "ask those who set it up: its cluster is not the inventory's"
_WRITABLE = "see why: dmesg, mount | grep {of}; mount -o remount,rw {of}"
_ASK_SERVER = "cat {of}; nslookup kubernetes.io and the server's address"
_ANSWERING = "start the server, let port 53 to it pass, or take it out of {of}"
# Of SELinux's refusals.
_MOST = 5
_DENIED = re.compile(r"avc: +denied +\{([^}]*)\}")
_VALUE = re.compile(r"\b(\w+)=(\"[^\"]*\"|\S+)")
_OURS = re.compile(
    r"kube.*|etcd.*|containerd.*|crio.*|conmon|runc.*|crun|coredns|flanneld|bridge|host-local|"
    r"loopback|portmap|iptables.*|nft"
)
_CONFINED = frozenset(["container_t", "kubelet_t", "container_runtime_t", "container_init_t"])
_FLANNELD = "flanneld.service"
_LINK = re.compile(r"net\.ipv4\.conf\.(.*)\.forwarding")


def answers(host: Host, _: Readings) -> Iterator[Said]:
    """Whether the host is there."""
    if host.silent:
        yield Said(host.silent, "an answer to SSH")
    elif not host.takes_part:
        yield Said("it takes no part in this run", state="unknown")


def built(host: Host, _: Readings) -> Iterator[Said]:
    """A host that another installer set up, or nobody."""
    there = told(host.state, "its files").there
    for name, (signs, _fix) in OTHER_INSTALLERS.items():
        if found := [path for path in signs if path in there]:
            yield Said(f"it has {found[0]}, of {name}", "nothing of another installer", mend=_ASK)
            return
    units = told(host.units, "its units").units
    if host.wanted.units and all(units[name].load == "not-found" for name in _names(host)):
        yield Said("no component is installed", "a host of the cluster")


def clock(host: Host, readings: Readings) -> Iterator[Said]:
    """A clock that is apart from those of most hosts, and from this machine's."""
    least, most = told(told(host.state, "its clock").behind, "its clock")
    others = [
        one.state.behind
        for one in readings.hosts.values()
        if one.state and one.state.behind and one is not host
    ]
    # Where most others agree with this machine, the one that does not is wrong.
    apart = max(least, -most, 0)
    off = [one for one in others if one[0] - most > _APART or least - one[1] > _APART]
    if apart > _APART and (not others or len(off) * 2 > len(others)):
        way = "behind" if least > 0 else "ahead of"
        yield Said(f"{apart:.0f} s {way} this machine's clock", "at most 2 s")


def disk(host: Host, _: Readings) -> Iterator[Said]:
    """A file system that is almost full."""
    disks = told(host.state, "its disks").disks
    for folder, one in disks.items():
        # Programs may lie where nobody writes.
        if folder.startswith("/var/") and "ro" in one.options:
            yield Said("it is read-only", "it can be written to", folder, mend=_WRITABLE)
    # One that is mounted in several places is said once.
    seen = {
        (one.size, one.free, one.inodes, one.inodes_free): one
        for one in sorted(disks.values(), key=lambda one: one.mount, reverse=True)
        if one.mount
    }
    for one in sorted(seen.values(), key=lambda one: one.mount):
        free = 100 * one.free / one.size if one.size else 100
        nodes = 100 * one.inodes_free / one.inodes if one.inodes else 100
        for left, least, what in ((free, _SPACE, "space"), (nodes, _INODES, "inodes")):
            if left < least:
                shown = f"{left:.0f} % of the {what} are free"
                yield Said(shown, f"at least {least} %", one.mount)


def memory(host: Host, _: Readings) -> Iterator[Said]:
    """Too little memory: kubelet evicts pods."""
    left = int(_words(host, "memory")["MemAvailable"].split()[0]) // 1024
    if left < _MEMORY:
        yield Said(f"{left} MiB are available", f"at least {_MEMORY} MiB")


def connections(host: Host, _: Readings) -> Iterator[Said]:
    """A table of connections that is almost full: the kernel drops packets of new ones."""
    held, most = map(int, host.answer("connections").text.split() or (0, 0))
    if held * 100 > most * _HELD:
        yield Said(f"{held} connections of {most}", f"at most {_HELD} %")


def ports(host: Host, _: Readings) -> Iterator[Said]:
    """Programs of others on ports that components need when they start."""
    for one in host.strangers:
        who = f"{one.program} (pid {one.pid}) has it" if one.pid else "the kernel has it"
        look = f"ss -lnp 'sport = :{one.port.split()[1]}'"
        yield Said(who, f"{one.component} alone", one.port, look=look, mend=freeing(one))


def swap(host: Host, _: Readings) -> Iterator[Said]:
    """Swap beside which kubelet does not start."""
    state = told(host.state, "its swap")
    accepted = (host.wanted.flags.get("kubelet") or {}).get("fail-swap-on") == "false"
    if state.swaps and not (state.swap_accepted or accepted):
        yield Said(", ".join(state.swaps), "no swap: kubelet does not start beside it")


def refusals(host: Host, _: Readings) -> Iterator[Said]:
    """What SELinux refused to components and containers of the cluster."""
    found: dict[str, tuple[str, bool]] = {}
    for line in host.answer("refusals").text.splitlines():
        what = _DENIED.search(line)
        values = {key: value.strip('"') for key, value in _VALUE.findall(line)}
        source = values.get("scontext", "").split(":")
        if not what or not (_OURS.fullmatch(values.get("comm", "")) or _CONFINED & {*source}):
            continue
        of = values.get("path") or values.get("name") or values.get("dest", "")
        target = ":".join(values.get("tcontext", "").split(":")[2:3])
        seen = f"{values.get('comm')} ({''.join(source[2:3])}) may not {what[1].strip()} "
        seen += f"{values.get('tclass', '')} {of} ({target})"
        found[seen] = of, values.get("permissive") == "1"
    for seen, (of, permissive) in list(found.items())[:_MOST]:
        yield Said(seen, "no refusal", of, state="warning" if permissive else "failed")


def forwarding(host: Host, _: Readings) -> Iterator[Said]:
    """Settings of the kernel without which no packet of a pod leaves the host."""
    found = _words(host, "kernel settings")
    own = {host.wanted.bridge, host.wanted.device, host.uplink.name if host.uplink else ""}
    for key, value in found.items():
        link = _LINK.fullmatch(key)
        # Without the first one no link does.
        if link and (link[1] not in own or found.get("net.ipv4.ip_forward") != "1"):
            continue
        if value != "1":
            yield Said(f"{key} = {value or 'not there'}", f"{key} = 1", key)


def names(host: Host, _: Readings) -> Iterator[Said]:
    """Names of the cluster's hosts that lead elsewhere."""
    found = _words(host, "names")
    for name, address in host.wanted.names.items():
        if found.get(name) != address:
            yield Said(f"{name} is at {found.get(name) or 'no address'}", address, name)


def nameservers(host: Host, readings: Readings) -> Iterator[Said]:
    """The file that pods get their nameservers from."""
    file, *servers = host.answer("nameservers").text.split()
    bad = [
        one for one in servers if re.match(r"127\.|::1$|0\.0\.0\.0$", one) or one == readings.dns
    ]
    if bad:
        yield Said(f"{file} names {bad[0]}", "servers outside the cluster's DNS", file)
    elif not servers:
        yield Said(f"{file} names no server", "at least one", file)
    elif silent := set(host.answer("silent nameservers").text.split()) & {*servers}:
        seen = f"{', '.join(sorted(silent))} does not answer"
        yield Said(
            seen, "an answer to a query", file, state="warning", mend=_ANSWERING, look=_ASK_SERVER
        )


# -- Units ---------------------------------------------------------------------------------------


def subnet_giver(host: Host, _: Readings) -> Iterator[Said]:
    """flanneld, where docker has its subnet from it: docker's unit requires that of flanneld."""
    if _docker_needs_flanneld(host):
        yield from _unit(host, _FLANNELD)


def _docker_needs_flanneld(host: Host) -> bool:
    return host.wanted.leased and _FLANNELD in _names(host)


def runtime(host: Host, _: Readings) -> Iterator[Said]:
    """The container runtime's unit."""
    if host.wanted.runtime:
        yield from _unit(host, host.wanted.runtime_unit)


def runtime_answers(host: Host, _: Readings) -> Iterator[Said]:
    """Whether the runtime tells its containers."""
    pods = told(host.pods, "the runtime's containers")
    if host.wanted.runtime and pods.runtime != host.wanted.runtime:
        yield Said(f"it is {pods.runtime}", "an answer")


def control_groups(host: Host, _: Readings) -> Iterator[Said]:
    """A runtime that keeps control groups otherwise than kubelet."""
    if host.wanted.systemd_groups and host.answer("control groups").text.strip() == "cgroupfs":
        yield Said("it keeps control groups itself", "systemd keeps them, as kubelet expects")


def unit_enabled(host: Host, _: Readings) -> Iterator[Said]:
    """Units that do not come again at a reboot."""
    units = told(host.units, "its units").units
    for name in (host.wanted.runtime_unit, *_names(host)):
        unit = units.get(name)
        if unit and unit.load == "masked":
            yield Said("masked", "enabled", name, mend="systemctl unmask --now {of}")
        elif unit and unit.enabled == "disabled":
            yield Said("disabled", "enabled", name, state="warning")


def unit_files(host: Host, _: Readings) -> Iterator[Said]:
    """Files of others that change a component's unit."""
    for name in _names(host):
        unit = told(host.units, "its units").units.get(name)
        component = name.removesuffix(".service")
        known = component in host.wanted.flags
        if unit and known and unit.files[1:] and _differing(host, component):
            yield Said(f"{unit.files[1]} changes its flags", "the plan's flags", name)


def configurations(host: Host, _: Readings) -> Iterator[Said]:
    """Files that configure components, and are not those of the plan."""
    found = told(host.files, "its files")
    for path, digest in host.wanted.configurations.items():
        if path not in found:
            yield Said("not there", "the plan's", path)
        elif found[path].sha256 != digest:
            yield Said("changed", "the plan's", path)


def unit_runs(host: Host, _: Readings) -> Iterator[Said]:
    """The components that are units."""
    for name in _names(host):
        if not (name == _FLANNELD and _docker_needs_flanneld(host)):
            yield from _unit(host, name)


def _unit(host: Host, name: str) -> Iterator[Said]:
    units = told(host.units, "its units")
    if units.manager != "systemd":
        raise Untold(f"systemd is {units.manager}")
    unit = units.units[name]
    if unit.active != "active":
        said = "not installed" if unit.load == "not-found" else f"{unit.active} ({unit.sub})"
        yield Said(said, "active (running)", name)


def unit_fresh(host: Host, _: Readings) -> Iterator[Said]:
    """Units that were started before what they read last changed."""
    units = told(host.units, "its units")
    for name in (host.wanted.runtime_unit, *_names(host)):
        unit = units.units.get(name)
        if not unit or unit.started is None:
            continue
        read = (*unit.files, *host.wanted.reads.get(name.removesuffix(".service"), ()))
        late = units.changed_since(unit.started, read)
        if late or unit.reload_needed:
            seen = f"{late[0]} changed after it started" if late else "its files changed"
            yield Said(seen, "a restart since", name, state="warning")


def flags(host: Host, _: Readings) -> Iterator[Said]:
    """Components that run with other flags than planned."""
    for component in host.wanted.flags:
        if differing := _differing(host, component):
            yield Said(", ".join(differing[:3]), "the flags of its plan", component)


def _differing(host: Host, component: str) -> list[str]:
    state = told(host.flags, "the components' flags").get(component)
    if not state:
        return []
    # What does not run may have ended for what its unit says.
    running = state.configured if state.running is None else state.running
    if running is None:
        return []
    wanted = host.wanted.flags[component]
    lacking = [f"--{name} is {running.get(name, 'not set')}" for name in wanted]
    lacking = [
        line
        for line, name in zip(lacking, wanted, strict=True)
        if running.get(name) != wanted[name]
    ]
    return lacking + [f"--{name} is set" for name in running if name not in wanted]


def health(host: Host, readings: Readings) -> Iterator[Said]:
    """Components that do not answer their probe."""
    for component in (*(name.removesuffix(".service") for name in _names(host)), *host.wanted.pods):
        if f"health of {component}" not in host.answers:
            continue
        answer = host.answer(f"health of {component}")
        if not answer.good:
            about = unwell(readings) if component == "kube-apiserver" else ()
            yield Said(_last(answer.text) or "no answer", "ok", component, about)


def _names(host: Host) -> list[str]:
    return [f"{component}.service" for component in host.wanted.units]


def _words(host: Host, question: str) -> dict[str, str]:
    """Lines of a key and a value."""
    lines = host.answer(question).text.splitlines()
    return {key: rest.strip() for key, _, rest in (line.partition(" ") for line in lines)}


def _last(text: str) -> str:
    return text.strip().rpartition("\n")[2][:200]
