"""
What of a cluster listens on built hosts, compared with its table of doors, and what each tells to
whoever has no credential for it.
"""

from __future__ import annotations

import http.client
import re
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.components.row_settings import settings
from pyinfra_kube.cluster.doors import Door, doors
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.settings import NODE_DNS
from tests.e2e.paths import Site, each, execute
from tests.e2e.pods import Kubectl
from tests.lab import Lab

# Of the hosts themselves; each blank one has the first, and one like Fedora the other.
OWN_PROGRAMS = {"sshd", "systemd-resolve"}
OWN_PORTS = {22, 5355}

# Where a door that only the node and its pods reach listens.
_OF = {"node": NODE_DNS}

HEALTH = {"/health", "/healthz", "/livez", "/readyz", "/version"}
# What Kubernetes' own roles let every user ask whom the CA knows.
DISCOVERY = {"/api", "/apis"}
PATHS = (
    *("/", "/api/v1/secrets", "/api/v1/nodes", "/metrics", "/debug/pprof/", "/configz"),
    *("/pods", "/runningpods/", "/logs/", "/stats/summary", "/spec/", "/containers/json"),
    *("/v2/keys/", "/v2/members", "/members", "/v3/cluster/member/list"),
    *HEALTH,
    *DISCOVERY,
)


@dataclass(frozen=True)
class Listener:
    """A program that listens, and where; the kernel has no name."""

    program: str
    protocol: str
    address: str
    port: int

    @property
    def on_loopback(self) -> bool:
        return self.address.startswith("127.") or self.address == "[::1]"


@dataclass(frozen=True)
class Credential:
    """What somebody shows: headers, and a file with a certificate and its key."""

    headers: dict[str, str]
    pair: Path | None = None
    known: bool = False


def spec_of(lab: Lab, site: Site) -> ClusterSpec:
    """The cluster that an inventory describes."""
    said = run_path(str(site.inventory))
    groups = {group: said[group] for group in ("control_plane", "etcd", "nodes") if group in said}
    data: dict[str, Any] = {}
    for hosts, of_group in groups.values():
        for name, own in hosts:
            data[name] = {**of_group, **own, "address": lab.hosts[name].ip}
    names = {group: [name for name, _ in hosts] for group, (hosts, _) in groups.items()}
    return ClusterSpec.from_inventory(names, data)


def doors_of(spec: ClusterSpec, host: str, pods: bool = False) -> list[Door]:
    """The doors that a host is to have, or its pods of CoreDNS."""
    release = Release.of(spec.kubernetes_version)
    roles = {"dns"} if pods else {"host", *spec.host(host).roles}
    return list(doors(roles, release, settings(spec, make_plan(spec), host)))


def listeners(lab: Lab, host: str) -> list[Listener]:
    """All that listens in a host's own network."""
    found = []
    for line in execute(lab, host, "ss -Hltnup"):
        words = line.split()
        address, _, port = words[4].rpartition(":")
        program = re.search(r'\(\("([^"]+)', line)
        name = program[1] if program else ""
        found.append(Listener(name, words[0], address.partition("%")[0], int(port)))
    return found


def see_all(lab: Lab, site: Site, pod: int, folder: Path) -> None:
    """
    All that is to be seen of a cluster's doors.

    + pod: a process in a pod's network
    + folder: for certificates of strangers
    """
    # Else firewalld keeps this machine out before any door does.
    let = f"firewall-cmd --quiet --zone=trusted --add-source={lab.network.control}"
    for host in lab.hosts:
        execute(lab, host, f"! command -v firewall-cmd >/dev/null || {let}")
    see_no_other_listens(lab, site)
    for process in (process_of_host(lab, list(lab.hosts)[-1]), pod):
        see_only_doors_from(lab, site, process)
    see_strangers_get_nothing(lab, site, folder)
    see_hosts_tell_their_programs_nothing(lab, site)


def see_no_other_listens(lab: Lab, site: Site) -> None:
    """On each host there is a door for each program that listens, and it opens no wider."""
    spec = spec_of(lab, site)
    for host in lab.hosts:
        known = doors_of(spec, host)
        heard = [one for one in listeners(lab, host) if one.program not in OWN_PROGRAMS]
        assert heard, host
        for one in heard:
            assert any(_is(one, door) for door in known), (host, one)


def _is(one: Listener, door: Door) -> bool:
    return (
        (not one.program or door.program[:15] == one.program)
        and door.protocol == one.protocol
        and door.port in ("", str(one.port))
        and (door.where == "hosts" or one.on_loopback or one.address == _OF.get(door.where))
    )


def see_only_doors_from(lab: Lab, site: Site, process: int) -> None:
    """A scan of all ports of all hosts, from a process's network, finds what is to be open."""
    spec = spec_of(lab, site)
    found = scan(process, [record.ip for record in lab.hosts.values()])
    for host, record in lab.hosts.items():
        known = doors_of(spec, host)
        wanted = {int(one.port) for one in known if (one.where, one.protocol) == ("hosts", "tcp")}
        assert found.get(record.ip, set()) - OWN_PORTS <= wanted, host
        must = {
            int(one.port)
            for one in known
            if one.program in ("kube-apiserver", "kubelet") and one.where == "hosts"
        }
        assert must <= found[record.ip], host


def see_only_doors_of_dns(lab: Lab, site: Site, process: int, kubectl: Kubectl) -> None:
    """A scan of all ports of CoreDNS, from a process's network, finds those of its doors."""
    known = doors_of(spec_of(lab, site), kubectl.host, pods=True)
    pods = kubectl.get("pods --namespace=kube-system --selector=k8s-app=kube-dns")
    addresses = [pod["status"]["podIP"] for pod in pods]
    wanted = {int(door.port) for door in known if door.protocol == "tcp"}
    assert scan(process, addresses) == dict.fromkeys(addresses, wanted)


def scan(process: int, addresses: Iterable[str]) -> dict[str, set[int]]:
    """Address → ports that take a connection, asked from the network of a process."""
    script = Path(__file__).with_name("scan.py")
    words = ["nsenter", f"--net=/proc/{process}/ns/net", sys.executable, str(script), *addresses]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, set[int]] = {}
    for line in done.stdout.splitlines():
        address, port = line.split()
        found.setdefault(address, set()).add(int(port))
    return found


def process_of_host(lab: Lab, host: str) -> int:
    """A process in a host's own network, as the machine numbers it."""
    leader = lab.host(host).leader()
    assert leader
    return leader


def process_of_pod(lab: Lab, host: str, program: str) -> int:
    """A process of a program that runs in a pod's network, as the machine numbers it."""
    own = Path(f"/proc/{process_of_host(lab, host)}/ns/net").readlink()
    for pid in lab.host(host).processes():
        there = Path(f"/proc/{pid}")
        try:
            if (there / "comm").read_text().strip() == program and (
                there / "ns/net"
            ).readlink() != own:
                return pid
        except FileNotFoundError:
            continue
    raise AssertionError(f"{host} has no pod with {program}")


def strangers(site: Site, folder: Path) -> Iterator[tuple[str, Credential]]:
    """Who is to be told nothing: what each shows."""
    yield "nothing", Credential({})
    yield "a wrong token", Credential({"Authorization": "Bearer abcdef.0123456789"})
    other = pki.make_ca("other")
    admin = ("admin", ["system:masters"])
    yield "a certificate of another CA", _pair(folder, pki.issue(other, "client", *admin))
    past = datetime.now(timezone.utc) - timedelta(days=2)
    for name in ("ca", "etcd-ca"):
        files = [site.store / f"{name}.{end}" for end in ("crt", "key")]
        if not files[0].exists():
            continue
        ca = pki.KeyPair(*(file.read_text() for file in files))
        expired = pki.issue(ca, "client", *admin, days=1, now=past)
        yield f"an expired certificate of {name}", _pair(folder, expired)
        if name == "ca":
            unknown = pki.issue(ca, "client", "nobody-knows-me")
            yield f"a certificate of {name} for nobody", _pair(folder, unknown, known=True)


def _member(site: Site, folder: Path, door: Door) -> Credential:
    """Who is let in, so that the silence of others means something."""
    name = "etcd-ca" if door.program == "etcd" else "ca"
    ca = pki.KeyPair(*((site.store / f"{name}.{end}").read_text() for end in ("crt", "key")))
    return _pair(folder, pki.issue(ca, "peer", "admin", ["system:masters"]))


def _pair(folder: Path, pair: pki.KeyPair, known: bool = False) -> Credential:
    file = folder / f"{len(list(folder.glob('*.pem')))}.pem"
    file.write_text(pair.cert + pair.key)
    return Credential({}, file, known)


def see_strangers_get_nothing(lab: Lab, site: Site, folder: Path) -> None:
    """Each open door of each host tells strangers what its row says, and no more."""
    spec = spec_of(lab, site)
    asked = [
        (lab.hosts[host].ip, door)
        for host in lab.hosts
        for door in doors_of(spec, host)
        if (door.where, door.protocol) == ("hosts", "tcp") and door.answers != "all"
    ]
    assert asked
    for address, door in asked:
        assert _told(_member(site, folder, door), (address, door)), (address, door.program)
    for who, credential in strangers(site, folder):
        for told, (address, door) in zip(
            each(partial(_told, credential), asked), asked, strict=True
        ):
            assert told <= _allowed(door, credential.known), (address, door.program, door.port, who)


def _told(credential: Credential, one: tuple[str, Door]) -> set[str]:
    """The paths that a door answers."""
    address, door = one
    return {
        path
        for scheme in ("https", "http")
        for path in PATHS
        if 200 <= answer(scheme, address, int(door.port), path, credential) < 300
    }


def _allowed(door: Door, known: bool = False) -> set[str]:
    return {"nothing": set[str](), "health": HEALTH | (DISCOVERY if known else set())}[door.answers]


def see_hosts_tell_their_programs_nothing(lab: Lab, site: Site) -> None:
    """Whoever is on a host, without a credential, gets what the rows of its loopback say."""
    spec = spec_of(lab, site)
    for host in lab.hosts:
        own = [door for door in doors_of(spec, host) if door.where == "loopback" and door.port]
        for door in own:
            if door.answers != "all":
                told = _told_on_host(lab, host, door.port)
                assert told <= _allowed(door), (host, door.program, door.port)


def _told_on_host(lab: Lab, host: str, port: str) -> set[str]:
    ask = "curl --silent --insecure --max-time 5 --output /dev/null --write-out '%{http_code}'"
    script = f"""\
for scheme in https http; do
  for path in {" ".join(PATHS)}; do
    echo "$({ask} $scheme://127.0.0.1:{port}$path) $path"
  done
done; true"""
    lines = execute(lab, host, script)
    return {line.split()[1] for line in lines if line.startswith("2")}


def answer(scheme: str, address: str, port: int, path: str, credential: Credential) -> int:
    """The code of an answer; 0 for none."""
    if scheme == "https":
        context = ssl._create_unverified_context()
        if credential.pair:
            context.load_cert_chain(credential.pair)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            address, port, timeout=5, context=context
        )
    else:
        connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path, headers=credential.headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
