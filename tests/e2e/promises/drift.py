"""
What can go wrong with each managed thing, and what a run must then do: drawn from what the deploy
said of itself, never from a second list.
"""

from __future__ import annotations

import base64
import json
import random
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import cycle
from pathlib import PurePosixPath
from typing import Any

from cryptography import x509
from netaddr import IPNetwork

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.components.common import CLUSTER_ADMINS, CONFIG_DIR
from pyinfra_kube.cluster.components.flanneld import device_of
from pyinfra_kube.engine.record import RECORDER
from pyinfra_kube.facts.flannel import SUBNET_FILE
from pyinfra_kube.facts.objects import FIELD_MANAGER
from pyinfra_kube.facts.sysctl import path as sysctl_path
from pyinfra_kube.facts.systemd import variables
from pyinfra_kube.operations import object_sets
from pyinfra_kube.operations.files import File
from tests.e2e import containers
from tests.e2e.promises.driver import Record
from tests.e2e.promises.managed import Catalogue, Reader, Wanted, objects_of, pair
from tests.e2e.promises.trial import Pair, Trial

# What ends when something else is started anew: docker's containers with docker, and what cannot
# do without etcd or the apiserver.
_CONSEQUENCES = {
    "container etcd": ("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    "container kube-apiserver": ("kube-controller-manager", "kube-scheduler"),
}

_BELOW_API = ("docker.service", "etcd.service", "kube-apiserver.service")

# What others on its host, or the one who makes a drift, cannot do without. Pods outlive containerd.
_HEAVY = {
    *(f"unit {name}" for name in ("containerd.service", "flanneld.service", *_BELOW_API)),
    *_CONSEQUENCES,
}


@dataclass(frozen=True)
class Spoil:
    """
    One thing that goes wrong on one host.

    + host, kind, what: where, which kind, for people
    + command: shell that does it
    + changes: the operations that must change, and no others
    + restarts: the units and containers that must start anew
    + takes: the units that systemd stops with those, for they require them
    + hides: operations whose subject cannot be read meanwhile, so that a plan may name them
    + undo: what is done when it was healed
    + heavy: whether it stops what others need, so that nothing else goes wrong on that host
    """

    host: str
    kind: str
    what: str
    command: str
    changes: frozenset[Pair]
    restarts: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    hides: frozenset[Pair] = frozenset()
    undo: str = ":"

    @property
    def heavy(self) -> bool:
        return bool(self.restarts & _HEAVY)

    @property
    def asks(self) -> bool:
        """Whether its command asks the apiserver or etcd."""
        return self.kind.startswith(("label", "object", "etcd", "lease"))

    def __str__(self) -> str:
        return f"{self.host}: {self.what}: {self.kind}"

    def may_restart(self, running: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """What may start anew besides: what cannot live without what must."""

        own = self.restarts | self.takes
        allowed = {(self.host, key) for key in own}
        after = {name for key in own for name in _CONSEQUENCES.get(key, ())}
        for host, key in running:
            if "unit docker.service" in own and host == self.host:
                allowed |= {(host, key)} if key.startswith("container") else set()
                after |= set(_CONSEQUENCES["container etcd"])
            if key.removeprefix("container ") in after:
                allowed.add((host, key))
        return allowed


@dataclass(frozen=True)
class _Unit:
    """
    What systemd on a host knows of a unit.

    + file: where its own file is; empty for none
    + required_by: the managed units that are stopped with it, as ``unit kubelet.service``
    """

    file: str
    required_by: tuple[str, ...]


@dataclass(frozen=True)
class _Scene:
    """
    Where things go wrong.

    + trial, catalogue: the path, and all that it manages
    + units: by host and key, as ``unit docker.service``, those that are managed
    """

    trial: Trial
    catalogue: Catalogue
    units: dict[str, dict[str, _Unit]]

    def along(self, host: str, keys: Iterable[str]) -> Iterator[str]:
        """The units that are stopped with others."""

        units = self.units[host]
        for key in keys:
            others = [o for o in units[key].required_by if o in units] if key in units else []
            yield from others
            yield from self.along(host, others)

    def with_takes(self, found: Iterable[Spoil]) -> list[Spoil]:
        return [replace(one, takes=frozenset(self.along(one.host, one.restarts))) for one in found]


def spoils(trial: Trial, catalogue: Catalogue) -> list[Spoil]:
    """Everything that can go wrong with what a deploy manages."""

    scene = _Scene(trial, catalogue, _units(trial, catalogue))
    found: list[Spoil] = []
    for host, files in catalogue.files.items():
        for wanted in files.values():
            found += _file(catalogue, host, wanted)
    for record in catalogue.records:
        make = _KINDS.get(record.operation)
        if make:
            found += make(scene, record)
    _require_all(catalogue, found)
    return scene.with_takes(found)


def _units(trial: Trial, catalogue: Catalogue) -> dict[str, dict[str, _Unit]]:
    found: dict[str, dict[str, _Unit]] = {host: {} for host in trial.hosts}
    for record in catalogue.calls("services.services"):
        names = [unit.name for unit in record.arguments["units"]]
        show = f"systemctl show --property=FragmentPath,RequiredBy -- {shlex.join(names)}"
        blocks = trial.execute(record.host, show).split("\n\n")
        for name, block in zip(names, blocks, strict=True):
            said = dict(line.split("=", 1) for line in block.split("\n") if line)
            required_by = tuple(f"unit {other}" for other in said["RequiredBy"].split())
            found[record.host][f"unit {name}"] = _Unit(said["FragmentPath"], required_by)
    return found


def _require_all(catalogue: Catalogue, found: Iterable[Spoil]) -> None:
    """See that whatever an operation manages goes wrong in some case."""

    tried = {change for spoil in found for change in spoil.changes}
    exempt = {operation for operations in _EXEMPT.values() for operation in operations}
    left = [r for r in catalogue.records if pair(r) not in tried and r.operation not in exempt]
    assert not left, f"nothing goes wrong with {[(r.host, r.operation, r.name) for r in left]}"


# -- Files ---------------------------------------------------------------------------------------


def _file(catalogue: Catalogue, host: str, wanted: Wanted) -> Iterator[Spoil]:
    file, path = wanted.file, shlex.quote(wanted.file.path)
    readers = catalogue.readers(host, file.path)
    anew = _with(wanted.pair, readers)

    def spoil(kind: str, command: str, content: bool = True) -> Spoil:
        changes, restarts = anew if content else (frozenset({wanted.pair}), frozenset[str]())
        return Spoil(host, f"{file.kind} {kind}", file.path, command, changes, restarts)

    if file.if_absent:
        # Whatever else stands there is somebody's own.
        if file.kind == "link":
            yield spoil("missing", f"rm {path}")
        return
    if file.kind == "link":
        yield spoil("points elsewhere", f"ln -sfn /dev/null {path}")
        yield spoil("missing", f"rm {path}")
        return
    mode = "777" if file.kind == "directory" else "666"
    if not file.keep:
        yield spoil("mode", f"chmod {mode} {path}", content=False)
        yield spoil("owner", f"chown daemon:daemon {path}", content=False)
    if file.kind == "directory":
        return
    yield spoil("content", _edit(file))
    told = _told_with(catalogue, host, file.path)
    yield replace(spoil("missing", f"rm {path}"), hides=told)
    # Where the users of units may read it, and pods that mount its folder.
    mounted = PurePosixPath(CONFIG_DIR) in PurePosixPath(file.path).parents
    folder = CONFIG_DIR if mounted else "/var/lib"
    aside = f"{folder}/drift-{file.path.replace('/', '-')}"
    yield replace(spoil("link to no file", f"rm {path} && ln -s /dev/null {path}"), hides=told)
    behind = f"{_edit(file)}" if not file.secret else f"echo >> {path}"
    behind = f"{behind} && mv {path} {aside} && ln -s {aside} {path}"
    # A folder that is younger than its unit tells of a drop-in that was removed. systemd takes a
    # unit behind a link for an alias until it looks again.
    parent = shlex.quote(str(PurePosixPath(file.path).parent))
    undo = (
        f"was=$(stat --format=%y {parent}) && mv {aside} {path} && "
        f'touch --date="$was" {parent} && systemctl daemon-reload'
    )
    yield replace(spoil("content behind a link", behind), undo=undo)
    if file.path.endswith(".crt"):
        hides = _untold(catalogue, host, file.path)
        for kind, command in {
            "certificate of another CA": put(file.path, _other_ca()),
            "certificate cut off": f"truncate --size=100 {path}",
        }.items():
            yield replace(spoil(kind, command), hides=hides)


def _with(own: Pair, readers: Iterable[Reader]) -> tuple[frozenset[Pair], frozenset[str]]:
    changes = {own, *(reader.pair for reader in readers)}
    return frozenset(changes), frozenset(reader.key for reader in readers)


# What is changed in files of which somebody may add lines of his own, or in which a comment is
# none: the end of a path → a command of sed.
_EDITS = {
    "/daemon.json": r's/"\(ip-masq\|userland-proxy\)": false/"\1": true/',
    "/containerd/config.toml": "s/pause:[0-9.]*/pause:0/",
    "/crictl.yaml": "s/containerd.sock/other.sock/",
    ".conflist": r's/"mtu": *[0-9]*/"mtu": 1337/',
}


def _edit(file: File) -> str:
    """Another content that is still valid, so that only a run would notice."""

    path = shlex.quote(file.path)
    known = next((edit for end, edit in _EDITS.items() if file.path.endswith(end)), None)
    if known:
        edit = f"sed -i {shlex.quote(known)} {path}"
    elif file.path.endswith((".yaml", ".service")) and b"--v=" in file.data:
        edit = f"sed -i 's/--v=[0-9]*/--v=4/' {path}"
    elif file.path.startswith(("/etc/kubernetes/", "/etc/sysconfig", "/etc/etcd/")):
        # Where a user's own variables stay, only one of ours is drift.
        edit = f"sed -i '0,/=/s/=/=drift/' {path}"
    else:
        return f"echo '# drift' >> {path}"
    changes = f"cp {path} /root/before && {edit} && ! cmp -s /root/before {path}"
    return f"( {changes}; done=$?; rm /root/before; exit $done )"


@cache
def _other_ca() -> str:
    return pki.make_ca("somebody else").cert


def put(path: str, text: str) -> str:
    """Shell that writes a file, which keeps its mode and owner."""
    return f"printf %s {_base64(text)} | base64 -d > {shlex.quote(path)}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# -- Everything else -----------------------------------------------------------------------------


def _maker(record: Record, what: str, prefix: str) -> Callable[[str, str], Spoil]:
    def make(kind: str, command: str) -> Spoil:
        return Spoil(record.host, f"{prefix} {kind}", what, command, frozenset({pair(record)}))

    return make


def _binaries(scene: _Scene, record: Record) -> Iterator[Spoil]:
    catalogue = scene.catalogue
    for binary in record.arguments["binaries"]:
        readers = catalogue.readers(record.host, binary.path)
        changes, restarts = _with(pair(record), readers)
        path, other = binary.path, f"{binary.path}.other"
        damage = f"cp {path} {other} && echo >> {other} && mv {other} {path}"
        hides = _asked(catalogue, record.host, {path.rpartition("/")[2]})
        for kind, command in {"content": damage, "missing": f"rm {path}"}.items():
            yield Spoil(
                record.host, f"binary {kind}", path, command, changes, restarts, hides=hides
            )
        spoil = _maker(record, path, "binary")
        yield spoil("mode", f"chmod 700 {path}")


_OBJECTS = ("nodes.node_objects", "objects.objects", "objects.sets_absent")
# The pods without which the API tells nothing.
_ASKED = ("etcd", "kube-apiserver")


def _objects(catalogue: Catalogue) -> frozenset[Pair]:
    """Operations on what only the API can tell."""
    return frozenset(pair(record) for name in _OBJECTS for record in catalogue.calls(name))


def _of_etcd(catalogue: Catalogue) -> list[Record]:
    """Operations on what only etcd can tell."""
    names = ("etcd.keys", "etcd.peer_urls", "flannel.network_config", "flannel.lease")
    return [record for name in names for record in catalogue.calls(name)]


def _told_with(catalogue: Catalogue, host: str, path: str) -> frozenset[Pair]:
    """Operations on what the API, or etcd, tells whoever shows what a file holds."""
    calls = [record for name in _OBJECTS for record in catalogue.calls(name, host)]
    asking = {record.arguments["kubeconfig"] for record in calls}
    of_etcd = {
        pair(record)
        for record in _of_etcd(catalogue)
        if record.host == host and path in map(record.arguments.get, ("ca", "cert", "key"))
    }
    return frozenset(of_etcd) | (_objects(catalogue) if path in asking else frozenset())


def _untold(catalogue: Catalogue, host: str, path: str) -> frozenset[Pair]:
    """Operations on what cannot be read while a certificate is not accepted."""
    keys = {reader.key for reader in catalogue.readers(host, path)}
    programs = {key.split()[-1].removesuffix(".service") for key in keys}
    hides = _told_with(catalogue, host, path)
    # Who is asked with such a certificate, or asks with one, tells nothing.
    if (programs | catalogue.rereads(host, path)) & {*_ASKED}:
        hides |= _objects(catalogue) | frozenset(map(pair, _of_etcd(catalogue)))
    return hides


def _bridge(scene: _Scene, record: Record) -> Iterator[Spoil]:
    name, address = record.arguments["bridge"], record.arguments["address"]
    spoil = _maker(record, name, "bridge")
    if not record.arguments["present"]:
        yield spoil("there again", f"ip link add {name} type bridge")
        return
    yield spoil("address", f"ip address flush dev {name}; ip address add 10.99.0.1/24 dev {name}")
    yield spoil("address missing", f"ip address del {address} dev {name}")
    yield spoil("second address", f"ip address add 10.99.0.1/24 dev {name}")
    yield spoil("mtu", f"ip link set dev {name} mtu 1337")
    yield spoil("down", f"ip link set dev {name} down")
    yield spoil("gone", f"ip link delete dev {name}")
    ports = f"ls /sys/class/net/{name}/brif"
    if scene.trial.execute(record.host, ports).strip():
        yield spoil("port lost", f"ip link set dev $({ports} | head -n 1) nomaster")


def _rules(_: _Scene, record: Record) -> Iterator[Spoil]:
    table, owner = record.arguments["table"], record.arguments["owner"]
    if not owner:
        return
    for number in range(1, len(record.arguments["rules"]) + 1):
        spoil = _maker(record, f"rule {number} of {owner}", "rule")
        find = (
            f"rule=$(iptables-save -t {table} | grep -e '--comment {owner} ' | sed -n {number}p)"
            f' && rule=${{rule#-A }} && [ -n "$rule" ]'
        )
        iptables = f"iptables -w -t {table}"
        yield spoil("deleted", f"{find} && {iptables} -D $rule")
        yield spoil("doubled", f"{find} && {iptables} -A $rule")
        other = "$(echo \"$rule\" | sed 's/10[.]1[06][.]/10.99./; s/dport [0-9]*/dport 9/')"
        yield spoil("changed", f"{find} && {iptables} -D $rule && {iptables} -A {other}")


def _routes(scene: _Scene, record: Record) -> Iterator[Spoil]:
    protocol = record.arguments["protocol"]
    gateway = str(scene.trial.lab.network.gateway)
    for route in record.arguments["routes"]:
        spoil = _maker(record, f"route {route.destination}", "route")
        yield spoil("deleted", f"ip route del {route.destination} proto {protocol}")
        other = f"ip route replace {route.destination} via {gateway} proto {protocol}"
        yield spoil("changed", other)
    spoil = _maker(record, "route 10.98.0.0/24", "route")
    yield spoil("of ours left over", f"ip route add 10.98.0.0/24 via {gateway} proto {protocol}")


def _sysctls(_: _Scene, record: Record) -> Iterator[Spoil]:
    for key in record.arguments["settings"]:
        spoil = _maker(record, key, "sysctl")
        yield spoil("changed", f"echo 0 > {sysctl_path(key)}")


def _run_by(catalogue: Catalogue, host: str, keys: Iterable[str]) -> frozenset[Pair]:
    """The operations that run units."""

    return frozenset(
        pair(record)
        for record in catalogue.calls("services.services", host)
        if not {f"unit {unit.name}" for unit in record.arguments["units"]}.isdisjoint(keys)
    )


def _hidden(scene: _Scene, host: str, keys: Iterable[str]) -> frozenset[Pair]:
    """The operations whose subject cannot be read while units of a host do not run."""

    below = {f"unit {name}" for name in _BELOW_API}
    if host != scene.trial.path.control_plane or below.isdisjoint(keys):
        return frozenset()
    return _objects(scene.catalogue) | frozenset(map(pair, _of_etcd(scene.catalogue)))


def _services(scene: _Scene, record: Record) -> Iterator[Spoil]:
    for unit in record.arguments["units"]:
        if unit.running:
            yield from _wanted_unit(scene, record, unit.name)
        elif unit.running is False:
            yield _unwanted_unit(scene, record, unit.name)


def _wanted_unit(scene: _Scene, record: Record, name: str) -> Iterator[Spoil]:
    host, key = record.host, f"unit {name}"
    ended = {key, *scene.along(host, [key])}
    # Its socket would start it again.
    socket = "docker.socket " if "unit docker.service" in ended else ""
    spoil = _maker(record, name, "unit")
    yield replace(
        spoil("stopped", f"systemctl stop {socket}{name}"),
        changes=_run_by(scene.catalogue, host, ended),
        restarts=frozenset(ended),
        hides=_hidden(scene, host, ended),
    )
    yield spoil("disabled", f"systemctl disable -q {name}")
    # systemd masks no unit whose file is in /etc.
    if not scene.units[host][key].file.startswith("/etc/"):
        yield spoil("masked", f"systemctl mask -q {name}")


def _unwanted_unit(scene: _Scene, record: Record, name: str) -> Spoil:
    """Somebody brings a unit, and runs it. Linked from elsewhere, it is gone once disabled."""

    path = f"/var/lib/drift-{name}/{name}"
    # With it systemd would stop a firewalld that is kept, and nothing starts that again.
    ask = "systemctl show --property=Conflicts --value firewalld.service"
    kept = scene.catalogue.calls("firewalld.opened", record.host)
    beside = kept and name in scene.trial.execute(record.host, ask).split()
    kind, now = ("enabled again", "") if beside else ("there again", "--now ")
    start = f"{put(path, _UNIT)} && systemctl enable --quiet {now}{path}"
    return _maker(record, name, "unit")(kind, f"mkdir -p /var/lib/drift-{name} && {start}")


_UNIT = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""


def _pods(scene: _Scene, record: Record) -> Iterator[Spoil]:
    for pod in record.arguments["pods"]:
        yield Spoil(
            record.host,
            "pod killed",
            pod.name,
            f"{containers.SHELL}kill_containers $(ids {pod.name})",
            # kubelet starts it again, nobody else.
            frozenset(),
            frozenset({f"container {pod.name}"}),
            hides=_objects(scene.catalogue) if pod.name in _ASKED else frozenset(),
        )


def _images(_: _Scene, record: Record) -> Iterator[Spoil]:
    for name in record.arguments["files"]:
        spoil = _maker(record, name, "image")
        yield spoil("gone", f"{containers.SHELL}remove_images {name}")


def _firewalld(_: _Scene, record: Record) -> Iterator[Spoil]:
    entries = [("trusted", "source", one) for one in record.arguments["sources"][:1]]
    entries += [("public", "port", one) for one in record.arguments["ports"]]
    for zone, what, value in entries:
        shut = f"firewall-cmd --quiet --zone={zone} --remove-{what}={value}"
        spoil = _maker(record, f"{what} {value}", "firewalld")
        yield spoil("lets it in no more", shut)
        yield spoil("will not let it in at the next boot", f"{shut} --permanent")


def _hosts(_: _Scene, record: Record) -> Iterator[Spoil]:
    spoil = _maker(record, "/etc/hosts", "hosts")
    begin = f"/# BEGIN {record.arguments['marker']}/"
    yield spoil("changed", f"sed -i '{begin}{{n;s/^[0-9.]*/192.0.2.99/}}' /etc/hosts")
    yield spoil("line missing", f"sed -i '{begin}{{n;d}}' /etc/hosts")


# The paths that go with a package: not what another has too, nor a folder that holds something,
# nor, with dpkg, its configuration.
_GONE = {
    "fedora": """\
rpm --query --list "$name" | while read -r path; do
  [ "$(rpm --query --file "$path" 2>/dev/null | wc -l)" -gt 1 ] || echo "$path"
done | there""",
    "debian": """\
kept=$(dpkg-query --show --showformat '${Conffiles}' "$name" | awk '{ print $1 }')
dpkg-query --listfiles "$name" | grep -vxF -e "${kept:-none}" | there""",
}
_THERE = """\
there() {
  while read -r path; do
    if [ -L "$path" ] || [ -f "$path" ]; then echo "$path"
    elif [ -d "$path" ] && [ -z "$(ls -A "$path")" ]; then echo "$path"; fi
  done
}
"""
_REMOVE = {"fedora": "rpm -e --nodeps", "debian": "dpkg --force-depends --force-hold --remove"}
# What locks a package, what lifts that, and what says which are installed.
_LOCK = {
    "fedora": (
        "dnf --quiet versionlock add",
        "dnf --quiet versionlock delete",
        "rpm --query --all --queryformat '%{NAME} '",
    ),
    "debian": (
        "apt-mark -qq hold",
        "apt-mark -qq unhold",
        "dpkg-query --show --showformat '${Package} '",
    ),
}


def _packages(scene: _Scene, record: Record) -> Iterator[Spoil]:
    family = _family(scene)
    for name in record.arguments["packages"]:
        gone = scene.trial.execute(record.host, f"name={name}\n{_THERE}{_GONE[family]}").split("\n")
        # Some of what the hosts have came with none of rpm's packages.
        if any(gone):
            removed = f"{_REMOVE[family]} {name} >/dev/null 2>&1"
            spoil = _maker(record, name, "package")("removed", removed)
            # apt's hold goes with the package, dnf's lock stays.
            lost = [
                pair(lock)
                for lock in scene.catalogue.calls("packages.locked", record.host)
                if family == "debian" and name in lock.arguments["packages"]
            ]
            yield _with_files(scene, replace(spoil, changes=spoil.changes.union(lost)), gone)


def _family(scene: _Scene) -> str:
    """Of the package manager, whatever the release."""
    return scene.trial.path.family.partition("-")[0]


def _locks(scene: _Scene, record: Record) -> Iterator[Spoil]:
    lock, lift, installed = _LOCK[_family(scene)]
    names = record.arguments["packages"]
    for name in names:
        yield _maker(record, name, "lock")("lifted", f"{lift} {name}")
    others = scene.trial.execute(record.host, installed).split()
    for name in [name for name in sorted(others) if name not in names][:1]:
        # As of an earlier run.
        command = f"{RECORDER}note lock {name} free\n{lock} {name}"
        yield _maker(record, name, "lock")("not wanted any more", command)


def _with_files(scene: _Scene, spoil: Spoil, paths: Iterable[str]) -> Spoil:
    """What goes wrong when files go with what they belong to."""

    catalogue, host = scene.catalogue, spoil.host
    units = {path.rpartition("/")[2] for path in paths if path.endswith(".service")}
    ended = {f"unit {unit}" for unit in units} & scene.units[host].keys()
    ended |= {reader.key for path in paths for reader in catalogue.readers(host, path)}
    ended |= set(scene.along(host, ended))
    own = {setter for path in paths for setter in catalogue.setters(host, path)}
    started = _run_by(catalogue, host, ended)
    hides = _hidden(scene, host, ended)
    # In Debian iptables is not among its package's own paths.
    programs = {spoil.what, *(path.rpartition("/")[2] for path in paths)}
    hides |= _asked(catalogue, host, programs)
    # Debian's packages run their units themselves.
    if scene.trial.path.family == "debian":
        started, hides = frozenset(), hides | started
    return replace(
        spoil, changes=spoil.changes | own | started, restarts=frozenset(ended), hides=hides
    )


def _asked(catalogue: Catalogue, host: str, programs: set[str]) -> frozenset[Pair]:
    """The operations whose subject cannot be read without programs."""

    names = [name for program in programs for name in _ASK.get(program, ())]
    return frozenset(pair(record) for name in names for record in catalogue.calls(name, host))


_ASK = {
    "crictl": ("images.images", "static_pods.static_pods"),
    "docker": ("docker.docker0_absent", "images.images", "static_pods.static_pods"),
    "iptables": ("iptables.rules",),
    "kubectl": _OBJECTS,
}


def _docker0(_: _Scene, record: Record) -> Iterator[Spoil]:
    yield _maker(record, "docker0", "link")("there again", "ip link add docker0 type bridge")


def _nodes(scene: _Scene, record: Record) -> Iterator[Spoil]:
    for node in record.arguments["nodes"]:
        for key in {**node.labels, **node.registered_with}:
            spoil = _maker(record, f"{key} of {node.name}", "label")
            label = f"{scene.trial.path.kubectl} label --overwrite node {node.name}"
            yield spoil("changed", f"{label} {key}=drift >/dev/null")
            yield spoil("missing", f"{label} {key}- >/dev/null")


def _manifests(scene: _Scene, record: Record) -> Iterator[Spoil]:
    for one in objects_of(record):
        kind, metadata = one["kind"], one["metadata"]
        namespace = metadata.get("namespace", "default")
        spoil = _maker(record, f"{kind} {metadata['name']}", "object")
        kubectl = f"{scene.trial.path.kubectl} --namespace={namespace}"
        named = f"{kind} {metadata['name']}"
        lets_in = named == f"ClusterRoleBinding {CLUSTER_ADMINS}"
        hides = _objects(scene.catalogue) if lets_in else frozenset[Pair]()
        if kind in _PATCHES:
            patch = shlex.quote(json.dumps(_PATCHES[kind](one)))
            change = f"{kubectl} patch {named} --type=merge --patch={patch} >/dev/null"
            yield replace(spoil(f"{kind} changed", change), hides=hides)
        # The tokens of pods that run are worth nothing once their account is another one.
        if kind != "ServiceAccount":
            missing = spoil(f"{kind} missing", f"{kubectl} delete {named} >/dev/null")
            yield replace(missing, hides=hides)


# What somebody changes of an object: kind → a patch of it.
_PATCHES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "ConfigMap": lambda one: {
        "data": {key: f"{text}# drift\n" for key, text in one["data"].items()}
    },
    "ClusterRole": lambda one: {"rules": one["rules"][:1]},
    "ClusterRoleBinding": lambda one: {"subjects": []},
    "Deployment": lambda one: {"spec": {"replicas": 0}},
    "Service": lambda one: {"spec": {"selector": {"k8s-app": "drift"}}},
}


def _sets(scene: _Scene, record: Record) -> Iterator[Spoil]:
    """Sets that somebody turned off while no run was made."""

    kubectl = scene.trial.path.kubectl
    for owner in record.arguments["owners"]:
        name = f"drift-of-{owner}"
        one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        there = object_sets.labelled({**one, "data": {"left": "over"}}, owner)
        listed = object_sets.Record(owner).with_those([one], []).manifest()
        items = {"apiVersion": "v1", "kind": "List", "items": [there, listed]}
        apply = f"{kubectl} apply --server-side --field-manager={FIELD_MANAGER} -f - >/dev/null"
        spoil = _maker(record, f"set {owner}", "object")
        yield spoil("left over", f"echo {shlex.quote(json.dumps(items))} | {apply}")


def _folders(_: _Scene, record: Record) -> Iterator[Spoil]:
    for path in record.arguments["whole"]:
        spoil = _maker(record, path, "folder")
        yield spoil("left over", f"mkdir -p {path} && touch {path}/left")


def _policy_rules(_: _Scene, record: Record) -> Iterator[Spoil]:
    marker = shlex.quote(record.arguments["marker"])
    chain = "iptables -w -N KUBE-ROUTER-FORWARD && iptables -w -A FORWARD -j KUBE-ROUTER-FORWARD"
    yield _maker(record, "rules of kube-router", "rule")("left over", f"{chain} && touch {marker}")


def _docker_rules(_: _Scene, record: Record) -> Iterator[Spoil]:
    nat = "iptables -w -t nat"
    rule = f"{nat} -N DOCKER && {nat} -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"
    yield _maker(record, "chain DOCKER", "rule")("of docker there again", rule)


def _docker_bridge(_: _Scene, record: Record) -> Iterator[Spoil]:
    name = record.arguments["bridge"]
    restarts = frozenset({"unit docker.service"})
    for kind, command in {
        "address": f"ip address flush dev {name}; ip address add 10.99.0.1/24 dev {name}",
        "address missing": f"ip address flush dev {name}",
        "down": f"ip link set dev {name} down",
        "gone": f"ip link delete dev {name}",
    }.items():
        yield replace(_maker(record, name, "docker's bridge")(kind, command), restarts=restarts)


def _lease(scene: _Scene, record: Record) -> Iterator[Spoil]:
    device = str(device_of(record.arguments["backend"], record.arguments["vni"]))
    restarts = frozenset({"unit flanneld.service"})
    for kind, command in {
        "address missing": f"ip address flush dev {device}",
        "mtu": f"ip link set dev {device} mtu 1337",
        "down": f"ip link set dev {device} down",
        "gone": f"ip link delete dev {device}",
    }.items():
        yield replace(_maker(record, device, "flannel's device")(kind, command), restarts=restarts)
    for kind, command in _lease_in_etcd(scene, record).items():
        yield replace(_maker(record, "flannel's lease", "lease")(kind, command), restarts=restarts)


def _lease_in_etcd(scene: _Scene, record: Record) -> dict[str, str]:
    given = record.arguments
    leases = f"{given['prefix']}/subnets"
    said = scene.trial.execute(record.host, f"cat {SUBNET_FILE}")
    subnet = IPNetwork(variables(said)["FLANNEL_SUBNET"]).cidr
    own = f"{leases}/{str(subnet).replace('/', '-')}"
    value = scene.trial.execute(record.host, _get(given, own)).strip()
    value = json.loads(value)["node"]["value"] if given["api"] == "v2" else value
    other = json.dumps({**json.loads(value), "BackendData": {"VtepMAC": "02:00:00:00:00:09"}})
    return {
        "of another device": _put(given, own, other),
        "beside an old one": _put(given, f"{leases}/10.99.7.0-24", value),
    }


def _keys(_: _Scene, record: Record) -> Iterator[Spoil]:
    for key in record.arguments["keys"]:
        spoil = _maker(record, key.path, "etcd key")
        yield spoil("changed", _put(record.arguments, key.path, "drift"))
        yield spoil("missing", _delete(record.arguments, key.path))


def _roles(_: _Scene, record: Record) -> Iterator[Spoil]:
    given = record.arguments
    etcdctl = _etcdctl({**given, "endpoints": [given["endpoint"]]})
    for role in given["prefixes"]:
        spoil = _maker(record, role, "etcd role")
        grant = f"{etcdctl} role grant-permission {role} --prefix=true read /registry/"
        yield spoil("may read more", f"{grant} >/dev/null")
        yield spoil("is asked of nobody", f"{etcdctl} auth disable >/dev/null")


def _peer_urls(_: _Scene, record: Record) -> Iterator[Spoil]:
    given = record.arguments
    members = _etcd(given, "/v3/cluster/member")
    named = rf's/.*"ID":"\([0-9]*\)", *"name":"{given["member"]}".*/\1/p'
    found = f"id=$({members}/list --data '{{}}' | sed -n {shlex.quote(named)})"
    plain = json.dumps([url.replace("https:", "http:") for url in given["urls"]])
    body = f"""'{{"ID":"'"$id"'","peerURLs":{plain}}}'"""
    spoil = _maker(record, given["member"], "etcd member")
    yield spoil("reached by HTTP", f"{found} && {members}/update --data {body} >/dev/null")


def _put(arguments: Mapping[str, Any], path: str, value: str) -> str:
    if arguments["api"] != "v2":
        return f"{_etcdctl(arguments)} put {path} {shlex.quote(value)} >/dev/null"
    data = shlex.quote(f"value={value}")
    return f"{_get(arguments, path)} -X PUT --data-urlencode {data} >/dev/null"


def _delete(arguments: Mapping[str, Any], path: str) -> str:
    if arguments["api"] != "v2":
        return f"{_etcdctl(arguments)} del {path} >/dev/null"
    return f"{_get(arguments, path)} -X DELETE >/dev/null"


def _get(arguments: Mapping[str, Any], path: str) -> str:
    if arguments["api"] != "v2":
        return f"{_etcdctl(arguments)} get --print-value-only {path}"
    return _etcd(arguments, f"/v2/keys{path}")


def _etcdctl(arguments: Mapping[str, Any]) -> str:
    options = {"--cacert": "ca", "--cert": "cert", "--key": "key"}
    words = [f"{option}={arguments[name]}" for option, name in options.items() if arguments[name]]
    return shlex.join(["etcdctl", f"--endpoints={arguments['endpoints'][0]}", *words])


def _etcd(arguments: Mapping[str, Any], path: str) -> str:
    options = {"--cacert": "ca", "--cert": "cert", "--key": "key"}
    used = [(option, arguments[name]) for option, name in options.items() if arguments[name]]
    words = [word for pair in used for word in pair]
    return shlex.join(["curl", "--silent", "--fail", *words, arguments["endpoints"][0] + path])


_KINDS: dict[str, Callable[[_Scene, Record], Iterator[Spoil]]] = {
    "binaries.binaries": _binaries,
    "bridge.bridge": _bridge,
    "docker.docker0_absent": _docker0,
    "docker_on_flannel.docker_options": _docker_bridge,
    "docker_rules.docker_rules_absent": _docker_rules,
    "etcd.keys": _keys,
    "etcd.peer_urls": _peer_urls,
    "etcd_roles.roles": _roles,
    "firewalld.opened": _firewalld,
    "flannel.lease": _lease,
    "hosts.hosts": _hosts,
    "images.images": _images,
    "iptables.rules": _rules,
    "leftovers.folders_emptied": _folders,
    "nodes.node_objects": _nodes,
    "objects.objects": _manifests,
    "objects.sets_absent": _sets,
    "packages.locked": _locks,
    "packages.packages": _packages,
    "policy_rules.policy_rules_absent": _policy_rules,
    "routes.routes": _routes,
    "services.services": _services,
    "static_pods.static_pods": _pods,
    "sysctl.sysctls": _sysctls,
}

# Operations that nothing goes wrong with, and why.
_EXEMPT = {
    "they only look": (
        "docker.working",
        "hosts.reachable",
        "verify.agreed",
        "verify.barrier",
        "verify.say",
        "verify.verified",
    ),
    "what they start is gone when the run ends": (
        "firewall_report.seen",
        "reach.arrived",
        "reach.send",
        "reach.take_place",
    ),
    "it is about the control machine, which has a test of its own": ("control_machine.save",),
}


# -- The control machine's store -----------------------------------------------------------------

# A year is what a certificate is good for; one has ended, another will in a week.
_GOOD_FOR = timedelta(days=365)
_LEFT = (timedelta(days=-1), timedelta(days=7))


def aged(store: Mapping[str, str]) -> dict[str, str]:
    """What a store holds, by file name, when its certificates but those of CAs are old."""

    certificates = {name: text for name, text in sorted(store.items()) if name.endswith(".crt")}
    authorities = {
        name: pki.KeyPair(text, store[f"{name.removesuffix('.crt')}.key"])
        for name, text in certificates.items()
        if pki.issued_by(text, text)
    }
    names = [name for name in certificates if name not in authorities]
    found = dict(store)
    for name, left in zip(names, cycle(_LEFT), strict=False):
        old = pki.read(store[name])
        issued = pki.issue(
            next(ca for ca in authorities.values() if pki.issued_by(store[name], ca.cert)),
            _usage(store[name]),
            old.common_name,
            organizations=old.organizations,
            names=old.names,
            days=_GOOD_FOR.days,
            now=datetime.now(timezone.utc) + left - _GOOD_FOR,
        )
        found |= {name: issued.cert, f"{name.removesuffix('.crt')}.key": issued.key}
    return found


def _usage(certificate: str) -> str:
    """What a certificate is good for, as ``pki.issue`` calls it."""

    parsed = x509.load_pem_x509_certificate(certificate.encode())
    usages = set(parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    return next(kind for kind, known in pki.USAGES.items() if usages == set(known))


def exchanged(
    trial: Trial, catalogue: Catalogue, store: Mapping[str, str], other: Mapping[str, str]
) -> list[Spoil]:
    """What hosts hold of a store, in a file or within one, exchanged for what another holds."""

    texts = {text: other[name] for name, text in store.items() if text != other[name]}
    texts |= {_base64(text): _base64(instead) for text, instead in texts.items()}
    found = []
    for host, files in catalogue.files.items():
        for wanted in files.values():
            path, before = wanted.file.path, wanted.file.data.decode()
            after = before
            for text, instead in texts.items():
                after = after.replace(text, instead)
            if after != before:
                changes, restarts = _with(wanted.pair, catalogue.readers(host, path))
                hides = _untold(catalogue, host, path)
                kind, command = "of an old certificate", put(path, after)
                found.append(Spoil(host, kind, path, command, changes, restarts, hides=hides))
    return _Scene(trial, catalogue, _units(trial, catalogue)).with_takes(found)


# -- Which, and together with which --------------------------------------------------------------


def draw(found: list[Spoil], count: int, seed: int) -> list[Spoil]:
    """So many, each kind before any kind comes twice."""

    chosen = random.Random(seed)
    shuffled = chosen.sample(found, len(found))
    seen: dict[str, int] = {}
    ranks: list[tuple[int, int, Spoil]] = []
    for place, spoil in enumerate(shuffled):
        seen[spoil.kind] = seen.get(spoil.kind, 0) + 1
        ranks.append((seen[spoil.kind], place, spoil))
    return [spoil for _, _, spoil in sorted(ranks, key=lambda rank: rank[:2])][:count]


def rounds(drawn: list[Spoil], size: int) -> list[list[Spoil]]:
    """Those that have nothing to do with each other go wrong, and are mended, together."""

    made: list[list[Spoil]] = []
    for spoil in drawn:
        home = next((r for r in made if len(r) < size and _fits(spoil, r)), None)
        if home is None:
            made.append([spoil])
        else:
            home.append(spoil)
    return [sorted(together, key=_turn) for together in made]


def _turn(spoil: Spoil) -> tuple[bool, bool]:
    """First what asks the cluster to go wrong, what takes rights last: none is refused then."""

    return not spoil.asks, "ClusterRole" in spoil.kind


def _fits(spoil: Spoil, others: list[Spoil]) -> bool:
    return not any(_clash(spoil, other) or _clash(other, spoil) for other in others)


def _clash(one: Spoil, other: Spoil) -> bool:
    if one.changes & other.changes:
        return True
    # Hosts none of which holds our CA seem to be somebody else's.
    if one.what == other.what and "certificate" in one.kind + other.kind:
        return True
    # Who stops what is asked may be on another host.
    if one.heavy and other.asks:
        return True
    return one.heavy and one.host == other.host


def undo(trial: Trial, healed: Collection[Spoil]) -> None:
    """Take away what a run rightly leaves: links of somebody's own, and what they point to."""

    for spoil in healed:
        trial.execute(spoil.host, spoil.undo)
    for host in {spoil.host for spoil in healed}:
        trial.execute(host, "rm -rf /var/lib/drift-*")


def describe(spoiled: Iterable[Spoil]) -> str:
    return "; ".join(str(spoil) for spoil in spoiled)


def expected(spoiled: Iterable[Spoil]) -> set[Pair]:
    return {change for spoil in spoiled for change in spoil.changes}
