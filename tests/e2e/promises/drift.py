"""
What can go wrong with each managed thing, and what a run must then do: drawn from what the deploy
said of itself, never from a second list.
"""

from __future__ import annotations

import base64
import random
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from pyinfra_kube.cluster import pki
from pyinfra_kube.facts.sysctl import path as sysctl_path
from pyinfra_kube.operations.util.files import File
from tests.e2e.promises.driver import Record
from tests.e2e.promises.managed import Catalogue, Reader, Wanted, pair
from tests.e2e.promises.trial import Pair, Trial

# What ends when something else is started anew: docker's containers with docker, and what cannot
# do without etcd or the apiserver.
_CONSEQUENCES = {
    "container etcd": ("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    "container kube-apiserver": ("kube-controller-manager", "kube-scheduler"),
}

_BELOW_API = ("docker.service", "etcd.service", "kube-apiserver.service")

# What others on its host, or the one who makes a drift, cannot do without.
_HEAVY = {"unit flanneld.service", *(f"unit {name}" for name in _BELOW_API), *_CONSEQUENCES}


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

    @property
    def heavy(self) -> bool:
        return bool(self.restarts & _HEAVY) or "docker" in self.kind

    @property
    def asks(self) -> bool:
        """Whether its command asks the apiserver or etcd."""
        return self.kind.startswith(("label", "etcd key"))

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


def spoils(trial: Trial, catalogue: Catalogue) -> list[Spoil]:
    """Everything that can go wrong with what a deploy manages."""

    found: list[Spoil] = []
    for host, files in catalogue.files.items():
        for wanted in files.values():
            found += _file(catalogue, host, wanted)
    for record in catalogue.records:
        make = _KINDS.get(record.operation)
        if make:
            found += make(trial, catalogue, record)
    required = _required(trial, catalogue)
    return [
        replace(spoil, takes=frozenset(_along(spoil.restarts, required[spoil.host])))
        for spoil in found
    ]


def _required(trial: Trial, catalogue: Catalogue) -> dict[str, dict[str, list[str]]]:
    """By host and unit, the managed units that require it, as systemd there says."""

    found: dict[str, dict[str, list[str]]] = {host: {} for host in trial.hosts}
    for record in catalogue.calls("services.services"):
        for unit in record.arguments["units"]:
            show = f"systemctl show --property=RequiredBy --value -- {shlex.quote(unit.name)}"
            said = trial.execute(record.host, show)
            found[record.host][f"unit {unit.name}"] = [f"unit {name}" for name in said.split()]
    return found


def _along(keys: Iterable[str], required: dict[str, list[str]]) -> Iterator[str]:
    """The units that are stopped with others."""

    for key in keys:
        others = [other for other in required.get(key, ()) if other in required]
        yield from others
        yield from _along(others, required)


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
    yield spoil("mode", f"chmod {mode} {path}", content=False)
    yield spoil("owner", f"chown daemon:daemon {path}", content=False)
    if file.kind == "directory":
        return
    yield spoil("content", _edit(file))
    yield spoil("missing", f"rm {path}")
    aside = f"/root/drift-{file.path.replace('/', '-')}"
    yield spoil("link instead", f"mv {path} {aside} && ln -s {aside} {path}")
    if file.path.endswith(".crt"):
        for kind, text in _certificates().items():
            put = f"printf %s {_base64(text)} | base64 -d > {path}"
            yield spoil(f"certificate {kind}", put)


def _with(own: Pair, readers: Iterable[Reader]) -> tuple[frozenset[Pair], frozenset[str]]:
    changes = {own, *(reader.pair for reader in readers)}
    return frozenset(changes), frozenset(reader.key for reader in readers)


def _edit(file: File) -> str:
    """Another content that is still valid, so that only a run would notice."""

    path = shlex.quote(file.path)
    if file.path.endswith(".json"):
        edit = f"""sed -i 's/"ip-masq": false/"ip-masq": true/' {path}"""
    elif file.path.endswith((".yaml", ".service")) and b"--v=" in file.data:
        edit = f"sed -i 's/--v=[0-9]*/--v=4/' {path}"
    elif file.path.startswith(("/etc/kubernetes/", "/etc/sysconfig", "/etc/etcd/")):
        # Where a user's own variables stay, only one of ours is drift.
        edit = f"sed -i '0,/=/s/=/=drift/' {path}"
    else:
        return f"echo '# drift' >> {path}"
    return f"cp {path} /root/before && {edit} && ! cmp -s /root/before {path}; done=$?; rm /root/before; exit $done"  # noqa: E501


def _certificates() -> dict[str, str]:
    now = datetime.now(timezone.utc)
    old = now - timedelta(days=800)
    other = pki.make_ca("somebody else")
    expired = pki.make_ca("kubernetes", now=old - timedelta(days=9000))
    return {"of another CA": other.cert, "expired": expired.cert}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# -- Everything else -----------------------------------------------------------------------------


def _maker(record: Record, what: str, prefix: str) -> Callable[[str, str], Spoil]:
    def make(kind: str, command: str) -> Spoil:
        return Spoil(record.host, f"{prefix} {kind}", what, command, frozenset({pair(record)}))

    return make


def _binaries(_: Trial, catalogue: Catalogue, record: Record) -> Iterator[Spoil]:
    for binary in record.arguments["binaries"]:
        readers = catalogue.readers(record.host, binary.path)
        changes, restarts = _with(pair(record), readers)
        path, other = binary.path, f"{binary.path}.other"
        damage = f"cp {path} {other} && echo >> {other} && mv {other} {path}"
        hides = _objects(catalogue) if path.endswith("kubectl") else frozenset[Pair]()
        for kind, command in {"content": damage, "missing": f"rm {path}"}.items():
            yield Spoil(
                record.host, f"binary {kind}", path, command, changes, restarts, hides=hides
            )
        spoil = _maker(record, path, "binary")
        yield spoil("mode", f"chmod 700 {path}")


def _objects(catalogue: Catalogue) -> frozenset[Pair]:
    """Operations on what only the API can tell."""
    return frozenset(pair(record) for record in catalogue.calls("nodes.node_objects"))


def _bridge(_: Trial, __: Catalogue, record: Record) -> Iterator[Spoil]:
    name, address = record.arguments["bridge"], record.arguments["address"]
    spoil = _maker(record, name, "bridge")
    yield spoil("address", f"ip address flush dev {name}; ip address add 10.99.0.1/24 dev {name}")
    yield spoil("address missing", f"ip address del {address} dev {name}")
    yield spoil("second address", f"ip address add 10.99.0.1/24 dev {name}")
    yield spoil("mtu", f"ip link set dev {name} mtu 1337")
    yield spoil("down", f"ip link set dev {name} down")
    yield spoil("gone", f"ip link delete dev {name}")


def _rules(_: Trial, __: Catalogue, record: Record) -> Iterator[Spoil]:
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


def _routes(trial: Trial, _: Catalogue, record: Record) -> Iterator[Spoil]:
    protocol = record.arguments["protocol"]
    gateway = str(trial.lab.network.gateway)
    for route in record.arguments["routes"]:
        spoil = _maker(record, f"route {route.destination}", "route")
        yield spoil("deleted", f"ip route del {route.destination} proto {protocol}")
        other = f"ip route replace {route.destination} via {gateway} proto {protocol}"
        yield spoil("changed", other)
    spoil = _maker(record, "route 10.98.0.0/24", "route")
    yield spoil("of ours left over", f"ip route add 10.98.0.0/24 via {gateway} proto {protocol}")


def _sysctls(_: Trial, __: Catalogue, record: Record) -> Iterator[Spoil]:
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


def _hidden(trial: Trial, catalogue: Catalogue, host: str, keys: Iterable[str]) -> frozenset[Pair]:
    """The operations whose subject cannot be read while units of a host do not run."""

    below = {f"unit {name}" for name in _BELOW_API}
    if host != trial.path.master or below.isdisjoint(keys):
        return frozenset()
    in_etcd = ("etcd.keys", "flannel.network_config", "flannel.lease")
    keys_ = [record for name in in_etcd for record in catalogue.calls(name)]
    return _objects(catalogue) | {pair(record) for record in keys_}


def _services(trial: Trial, catalogue: Catalogue, record: Record) -> Iterator[Spoil]:
    required = _required(trial, catalogue)[record.host]
    for unit in record.arguments["units"]:
        if not unit.running:
            continue
        changes, key = frozenset({pair(record)}), f"unit {unit.name}"
        ended = {key, *_along([key], required)}
        # Its socket would start it again.
        socket = "docker.socket " if "unit docker.service" in ended else ""
        yield Spoil(
            record.host,
            "unit stopped",
            unit.name,
            f"systemctl stop {socket}{unit.name}",
            changes | _run_by(catalogue, record.host, ended),
            frozenset(ended),
            hides=_hidden(trial, catalogue, record.host, ended),
        )
        yield Spoil(
            record.host, "unit disabled", unit.name, f"systemctl disable -q {unit.name}", changes
        )
        if unit.name == "docker.service":
            # systemd masks no unit whose file is in /etc.
            yield Spoil(
                record.host, "unit masked", unit.name, f"systemctl mask -q {unit.name}", changes
            )


def _pods(_: Trial, catalogue: Catalogue, record: Record) -> Iterator[Spoil]:
    for pod in record.arguments["pods"]:
        find = f"docker ps --quiet --filter label=io.kubernetes.container.name={pod.name}"
        yield Spoil(
            record.host,
            "pod killed",
            pod.name,
            f"docker kill $({find}) >/dev/null",
            # kubelet starts it again, nobody else.
            frozenset(),
            frozenset({f"container {pod.name}"}),
            hides=_objects(catalogue) if pod.name in ("etcd", "kube-apiserver") else frozenset(),
        )


def _images(_: Trial, __: Catalogue, record: Record) -> Iterator[Spoil]:
    for name in record.arguments["files"]:
        spoil = _maker(record, name, "image")
        yield spoil("gone", f"docker rmi --force {name} >/dev/null")


def _hosts(_: Trial, __: Catalogue, record: Record) -> Iterator[Spoil]:
    spoil = _maker(record, "/etc/hosts", "hosts")
    begin = f"/# BEGIN {record.arguments['marker']}/"
    yield spoil("changed", f"sed -i '{begin}{{n;s/^[0-9.]*/192.0.2.99/}}' /etc/hosts")
    yield spoil("line missing", f"sed -i '{begin}{{n;d}}' /etc/hosts")


def _packages(trial: Trial, catalogue: Catalogue, record: Record) -> Iterator[Spoil]:
    rpm = trial.path.family == "fedora"
    remove = "rpm -e --nodeps" if rpm else "dpkg --force-depends --remove"
    for name in record.arguments["packages"]:
        if name.startswith(("docker", "containerd", "moby")):
            continue
        held = trial.execute(record.host, f"rpm -ql {name} || :").split() if rpm else []
        if rpm and "/" not in "".join(held):
            # Some of what the hosts have came with none of rpm's packages.
            continue
        spoil = _maker(record, name, "package")("removed", f"{remove} {name} >/dev/null 2>&1")
        yield _with_files(trial, catalogue, spoil, held)


def _with_files(trial: Trial, catalogue: Catalogue, spoil: Spoil, paths: Iterable[str]) -> Spoil:
    """What goes wrong when files go with what they belong to."""

    host, name = spoil.host, spoil.what
    units = {path.rpartition("/")[2] for path in paths if path.endswith(".service")}
    ended = {f"unit {unit}" for unit in units}
    ended |= {reader.key for path in paths for reader in catalogue.readers(host, path)}
    ended |= set(_along(ended, _required(trial, catalogue)[host]))
    managed = catalogue.files[host]
    own = {managed[p].pair for p in paths if p in managed and managed[p].file.kind == "file"}
    hides = _hidden(trial, catalogue, host, ended)
    if name == "iptables":
        hides |= {pair(record) for record in catalogue.calls("iptables.rules", host)}
    if "/usr/bin/kubectl" in paths:
        hides |= _objects(catalogue)
    return replace(
        spoil,
        changes=spoil.changes | own | _run_by(catalogue, host, ended),
        restarts=frozenset(ended),
        hides=hides,
    )


def _docker0(_: Trial, __: Catalogue, record: Record) -> Iterator[Spoil]:
    yield _maker(record, "docker0", "link")("there again", "ip link add docker0 type bridge")


def _nodes(trial: Trial, _: Catalogue, record: Record) -> Iterator[Spoil]:
    for node in record.arguments["nodes"]:
        for key in node.labels:
            spoil = _maker(record, f"{key} of {node.name}", "label")
            label = f"{trial.path.kubectl} label --overwrite node {node.name}"
            yield spoil("changed", f"{label} {key}=drift >/dev/null")
            yield spoil("missing", f"{label} {key}- >/dev/null")


def _keys(_: Trial, __: Catalogue, record: Record) -> Iterator[Spoil]:
    if record.arguments["api"] != "v2":
        return
    given = {name: record.arguments[name] for name in ("ca", "cert", "key")}
    words = ["curl", "--silent", "--fail"]
    words += [f"--{'cacert' if n == 'ca' else n}={path}" for n, path in given.items() if path]
    for key in record.arguments["keys"]:
        spoil = _maker(record, key.path, "etcd key")
        url = f"{record.arguments['endpoints'][0]}/v2/keys{key.path}"
        curl = shlex.join(words)
        yield spoil("changed", f"{curl} -X PUT --data-urlencode value=drift {url} >/dev/null")
        yield spoil("missing", f"{curl} -X DELETE {url} >/dev/null")


_KINDS: dict[str, Callable[[Trial, Catalogue, Record], Iterator[Spoil]]] = {
    "binaries.binaries": _binaries,
    "bridge.bridge": _bridge,
    "docker.docker0_absent": _docker0,
    "etcd.keys": _keys,
    "hosts.hosts": _hosts,
    "images.images": _images,
    "iptables.rules": _rules,
    "nodes.node_objects": _nodes,
    "packages.packages": _packages,
    "routes.routes": _routes,
    "services.services": _services,
    "static_pods.static_pods": _pods,
    "sysctl.sysctls": _sysctls,
}


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
    # What asks the cluster to go wrong comes first: the others may take its credentials away.
    return [sorted(together, key=lambda spoil: not spoil.asks) for together in made]


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


def describe(spoiled: Iterable[Spoil]) -> str:
    return "; ".join(str(spoil) for spoil in spoiled)


def expected(spoiled: Iterable[Spoil]) -> set[Pair]:
    return {change for spoil in spoiled for change in spoil.changes}
