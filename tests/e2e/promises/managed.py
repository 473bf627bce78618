"""
What a deploy manages, as it told itself while it was prepared; and how that stands on the hosts.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyinfra_kube.facts.images import STAGE
from pyinfra_kube.facts.sysctl import path as sysctl_path
from pyinfra_kube.operations.files import File
from tests.e2e import containers
from tests.e2e.promises.driver import Record, Report
from tests.e2e.promises.trial import Pair, Trial


@dataclass(frozen=True)
class Wanted:
    """A file and the operation that sets it."""

    file: File
    pair: Pair


@dataclass(frozen=True)
class Reader:
    """What must start anew when a file changes: a unit or a container, and who restarts it."""

    key: str
    pair: Pair


@dataclass(frozen=True)
class Catalogue:
    """All that a deploy manages on the hosts."""

    records: list[Record]
    files: dict[str, dict[str, Wanted]]

    @classmethod
    def of(cls, report: Report) -> Catalogue:
        files: dict[str, dict[str, Wanted]] = {}
        for host, name, file in report.files:
            if file.kind != "absent":
                wanted = Wanted(file, (short(name), host))
                files.setdefault(host, {}).setdefault(file.path, wanted)
        return cls(report.records, files)

    @property
    def secret_files(self) -> dict[str, list[File]]:
        return {
            host: [wanted.file for wanted in files.values() if wanted.file.secret]
            for host, files in self.files.items()
        }

    @property
    def secret_folders(self) -> dict[str, set[Path]]:
        return {
            host: {Path(file.path).parent for file in files}
            for host, files in self.secret_files.items()
        }

    def calls(self, operation: str, host: str | None = None) -> Iterator[Record]:
        """The calls of an operation, as ``bridge.bridge``."""
        for record in self.records:
            if record.operation == operation and host in (None, record.host):
                yield record

    def setters(self, host: str, path: str) -> Iterator[Pair]:
        """The operations that set a file or a program."""
        if path in self.files.get(host, {}):
            yield self.files[host][path].pair
        for record in self.calls("binaries.binaries", host):
            if path in (binary.path for binary in record.arguments["binaries"]):
                yield pair(record)

    def readers(self, host: str, path: str) -> list[Reader]:
        """Who reads a file on a host when it starts."""
        found = []
        for record in self.calls("services.services", host):
            for unit in record.arguments["units"]:
                own = f"/etc/systemd/system/{unit.name}"
                if path in unit.config or path == own or path.startswith(f"{own}.d/"):
                    found.append(Reader(f"unit {unit.name}", pair(record)))
        for record in self.calls("static_pods.static_pods", host):
            for pod in record.arguments["pods"]:
                manifest = f"{record.arguments['directory']}/{pod.name}.yaml"
                if path in pod.config or path == manifest:
                    found.append(Reader(f"container {pod.name}", pair(record)))
        return found

    def rereads(self, host: str, path: str) -> set[str]:
        """The static pods and units on a host that read a file again by themselves."""
        pods = (r.arguments["pods"] for r in self.calls("static_pods.static_pods", host))
        found = {pod.name for some in pods for pod in some if path in pod.rereads}
        own = {reader.key for reader in self.readers(host, path)}
        named = {
            file.rpartition("/")[2]
            for file, wanted in self.files[host].items()
            if file.endswith(".service") and path.encode() in wanted.file.data
        }
        return found | {
            unit.removesuffix(".service") for unit in named if f"unit {unit}" not in own
        }


def pair(record: Record) -> Pair:
    return short(record.name), record.host


def short(name: str) -> str:
    """An operation's name without the path's own."""
    return name.partition(" | ")[2]


_FUNCTIONS = rf"""{containers.SHELL}
points() {{ echo "file $1 link $(readlink "$1")"; }}
file() {{
  if [ -d "$1" ]; then echo "file $1 $(stat -L -c '%F %a %U:%G' "$1")"
  elif [ -e "$1" ]; then
    echo "file $1 $(stat -L -c '%F %a %U:%G' "$1") $(sha256sum <"$1" | cut -c 1-64)"
  else echo "file $1 absent"; fi
}}
link() {{
  [ -e "/sys/class/net/$1" ] || {{ echo "link $1 absent"; return; }}
  echo "link $1 mtu $(cat "/sys/class/net/$1/mtu") up $(ip -o link show up dev "$1" | wc -l)" \
    $(ip -o -4 address show dev "$1" | awk '{{print $4}}')
}}
unit() {{
  echo "unit $1" $(systemctl show --property=LoadState,ActiveState,UnitFileState -- "$1")
}}
image() {{ echo "image $1 $(image_id "$1" || echo absent)"; }}
pod() {{ echo "pod $1 $(ids "$1" | wc -l)"; }}
package() {{
  echo "package $1 $(dpkg-query -W -f '${{db:Status-Abbrev}}' "$1" 2>/dev/null || rpm -q "$1")"
}}
object() {{
  echo "object $3 $4 $($1 --namespace "$2" get "$3" "$4" --output jsonpath="$5" || echo absent)"
}}
"""

# Everybody's rules and routes, but for those that kube-proxy and kubelet keep by themselves.
_KERNEL = rf"""
iptables-save | awk '/^\*/ {{ t = $1 }} /^-A/ && !/KUBE-/ {{ print "rule", t, $0 }}'
ip -4 route show | sed 's/ linkdown//; s/ *$//; s/^/route /'
ip -o link show type veth | awk '!/ master / && $2 !~ /^eth0@/ {{ print "without a bridge:", $2 }}'
find / -xdev \( -path /proc -o -path /sys -o -path /var/lib/docker -o -path /var/lib/containerd \) \
  -prune -o \
  \( -name '.*.pyinfra-kube' -o -path {STAGE} -o -path '/tmp/*pyinfra*' \) -printf 'leftover %p\n'
"""

# What somebody else has on a host, and what tells that it is as it was.
KERNEL_NEIGHBOURS = r"""
set -e
iptables -w -A INPUT -s 100.127.9.7/32 -j DROP
iptables -w -t nat -A POSTROUTING -s 100.127.9.8/32 -m comment --comment own -j RETURN
ip route add blackhole 100.127.9.0/24
ip link add own0 type bridge
"""
NEIGHBOURS = f"""{containers.SHELL}
for folder in /srv/kubernetes /etc/kubernetes /etc/systemd/system /etc/docker /usr/local/bin; do
  mkdir -p $folder
  echo own >$folder/own.txt
  chmod 640 $folder/own.txt
done
echo 'vm.max_map_count = 262144' >/etc/sysctl.d/98-own.conf
echo '100.127.9.9 somebody' >>/etc/hosts
keep_own {{image}}
"""
_NEIGHBOURS = r"""
for folder in /srv/kubernetes /etc/kubernetes /etc/systemd/system /etc/docker /usr/local/bin; do
  file $folder/own.txt
done
file /etc/sysctl.d/98-own.conf
file /etc/hosts
link own0
own || :
"""

_NODES = """\
{{range $n := .items}}node {{.metadata.name}} {{.spec.podCIDR}}\
{{range $k, $v := .metadata.labels}} {{$k}}={{$v}}{{end}}{{"\\n"}}{{end}}"""


# What of an object somebody may change by hand, and how many of its pods are ready.
_OBJECT = (
    "{.metadata.labels} {.spec} {.data} {.rules} {.roleRef} {.subjects} {.status.readyReplicas}"
)


def objects_of(record: Record) -> Iterator[dict[str, Any]]:
    """The objects that are set in the API."""
    for manifest in record.arguments["manifests"]:
        yield from filter(None, yaml.safe_load_all(manifest.text))


def dump(trial: Trial, catalogue: Catalogue, *, api: bool = True) -> dict[str, list[str]]:
    """How what is managed stands on each host, and what of others is beside it."""

    found = {}
    for host in trial.hosts:
        said = trial.execute(host, _script(trial, catalogue, host, api))
        found[host] = sorted(line.rstrip() for line in said.splitlines())
    return found


def _script(trial: Trial, catalogue: Catalogue, host: str, api: bool) -> str:
    calls = catalogue.calls
    lines = [_FUNCTIONS, _KERNEL, _NEIGHBOURS]
    files = catalogue.files.get(host, {})
    links = [path for path, wanted in files.items() if wanted.file.kind == "link"]
    lines += _each("points", links) + _each("file", (path for path in files if path not in links))
    for record in calls("binaries.binaries", host):
        lines += _each("file", (binary.path for binary in record.arguments["binaries"]))
    for record in calls("bridge.bridge", host):
        lines += _each("link", [record.arguments["bridge"]])
    lines += ["link docker0"]
    for record in calls("services.services", host):
        lines += _each("unit", (unit.name for unit in record.arguments["units"]))
    for record in calls("images.images", host):
        lines += _each("image", record.arguments["files"])
    for record in calls("static_pods.static_pods", host):
        lines += _each("pod", (pod.name for pod in record.arguments["pods"]))
    for record in calls("packages.packages", host):
        lines += _each("package", record.arguments["packages"])
    for record in calls("sysctl.sysctls", host):
        lines += [
            f'echo "sysctl {k} $(cat {sysctl_path(k)})"' for k in record.arguments["settings"]
        ]
    for record in calls("objects.objects", host) if api else ():
        for one in objects_of(record):
            metadata = one["metadata"]
            words = [metadata.get("namespace", "default"), one["kind"], metadata["name"], _OBJECT]
            lines.append(shlex.join(["object", trial.path.kubectl, *words]))
    if host == trial.path.control_plane and api:
        template = shlex.quote(f"go-template={_NODES}")
        lines += [f"{trial.path.kubectl} get nodes --output {template} || echo node unknown"]
    lines.append(":")
    return "\n".join(lines)


def _each(function: str, words: Iterable[Any]) -> list[str]:
    return [shlex.join([function, str(word)]) for word in words]


def stale(trial: Trial, catalogue: Catalogue) -> list[str]:
    """Units and containers that are older than what they read when they start."""

    found = []
    for host in trial.hosts:
        lines = [containers.SHELL, _AGES]
        for record in catalogue.calls("services.services", host):
            for unit in record.arguments["units"]:
                own = [f"/etc/systemd/system/{unit.name}", f"/etc/systemd/system/{unit.name}.d"]
                lines.append(shlex.join(["unit", unit.name, *own, *unit.config]))
        for record in catalogue.calls("static_pods.static_pods", host):
            for pod in record.arguments["pods"]:
                lines.append(shlex.join(["pod", pod.name, *pod.config]))
        said = trial.execute(host, "\n".join(lines))
        found += [f"{host}: {line}" for line in said.splitlines()]
    return found


# Whole seconds are all that both sides have.
_AGES = r"""
older() {
  name=$1 start=$2
  shift 2
  for path; do
    [ ! -e "$path" ] || [ "$(stat -c %Y "$path")" -le "$start" ] || echo "$name is older than $path"
  done
}
unit() {
  name=$1
  shift
  start=$(systemctl show --timestamp=unix --property=ExecMainStartTimestamp --value -- "$name")
  older "$name" "${start#@}" "$@"
}
pod() {
  name=$1
  shift
  older "$name" "$(date -d "$(started "$(ids "$name")")" +%s)" "$@"
}
"""

_STARTS = r"""
systemctl show --property=Id,MainPID --type=service --state=active '*' \
  | awk -F= '{ found[$1] = $2 } !$1 || /^$/ { show() } END { show() }
    function show() { if (found["Id"]) print "unit", found["Id"], found["MainPID"]; delete found }'
running
"""
_OTHERS = ("systemd-", "user", "dbus", "getty", "console-getty", "apt-", "logrotate", "polkit")


def starts(trial: Trial) -> dict[tuple[str, str], str]:
    """What runs on each host, and by what it is known from the one that ran there before."""

    found = {}
    for host, said in trial.everywhere(f"{containers.SHELL}{_STARTS}").items():
        lines = said.splitlines()
        for line in lines:
            kind, name, *identity = line.split()
            if kind != "unit" or identity == ["0"] or name.startswith(_OTHERS):
                continue
            found[host, f"unit {name}"] = identity[0]
        for one in containers.read(lines):
            if not one.in_pod:
                found[host, f"container {one.name}"] = one.id
                continue
            container, pod, _ = one.in_pod
            # Others come and go as their controllers please.
            if pod == f"{container}-{host}":
                found[host, f"container {container}"] = one.id
        if (host, "unit docker.service") in found:
            # docker's own.
            found.pop((host, "unit containerd.service"), None)
    return found
