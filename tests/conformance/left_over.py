"""
What a suite left on hosts: whatever is there for a pod that is not.

Each pod that runs has one sandbox and one folder of control groups; each on the pods' network has
one address, of host-local or of docker, and one network namespace. Rules name the addresses of such
pods only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

SHELL = r"""
if command -v docker >/dev/null; then
    docker ps --all --filter label=io.kubernetes.docker.type=podsandbox \
        --format 'sandbox {{.Label "io.kubernetes.pod.uid"}}'
    docker network inspect bridge \
        --format '{{range .Containers}}address {{.IPv4Address}}{{"\n"}}{{end}}' | cut -d / -f 1
    ls /run/docker/netns | grep -vx default | sed 's/^/namespace /'
    # A hierarchy that kubelets of that time do not know: pods' empty groups stay there.
    unknown=/sys/fs/cgroup/unified
else
    crictl pods --output json | tr -d '\n' | sed 's/^/sandboxes /'; echo
fi
ls /var/lib/cni/networks/*/ 2>/dev/null | sed 's/^/address /'
ls /run/netns 2>/dev/null | sed 's/^/namespace /'
find /sys/fs/cgroup -path "${unknown:-none}" -prune -o \
    -type d -path '*kubepods*' -name '*pod*' -print | sed 's/^/group /'
for tool in iptables-nft iptables-legacy; do
    command -v $tool-save >/dev/null && $tool-save 2>/dev/null | sed 's/^/rule /'
done
command -v nft >/dev/null && nft list ruleset 2>/dev/null | sed 's/^/rule /'
true
"""
"""What a host is asked."""

_ADDRESS = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?:/32)?(?![\d/]|\.\d)")
_UID = re.compile(r"pod([0-9a-f]{8}[-_0-9a-f]+)")


@dataclass(frozen=True)
class Pod:
    """
    A pod that runs.

    + uid: its own; a static pod's is the one that its kubelet gave it
    + address: none on the host's network
    """

    name: str
    uid: str
    address: str = ""


@dataclass
class Told:
    """What a host has: uids of sandboxes and control groups, addresses, namespaces, rules."""

    sandboxes: list[str] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)
    addresses: list[str] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, lines: Sequence[str]) -> Told:
        """
        What a host said.

        + lines: that `SHELL` prints
        """
        told = cls()
        for line in lines:
            kind, _, rest = line.partition(" ")
            if kind == "sandboxes":
                told.sandboxes = [one["metadata"]["uid"] for one in json.loads(rest)["items"] or []]
            elif kind == "sandbox":
                told.sandboxes.append(rest)
            elif kind == "address" and re.fullmatch(r"[\d.]+", rest):
                told.addresses.append(rest)
            elif kind == "namespace":
                told.namespaces.append(rest)
            elif kind == "group" and (found := _UID.search(rest.rpartition("/")[2])):
                told.groups.add(found[1].replace("_", "-"))
            elif kind == "rule":
                told.rules.append(rest)
        return told


def left_over(told: Told, pods: Sequence[Pod], pod_cidr: str) -> list[str]:
    """
    What a host has for pods that do not run, and what running pods lack; a line each.

    + told: what the host has
    + pods: that run there
    + pod_cidr: the host's range; its first, second and last address are no pod's
    """
    uids = sorted(pod.uid for pod in pods)
    addresses = sorted(pod.address for pod in pods if pod.address)
    found = [
        *_differ("sandbox of pod", told.sandboxes, uids),
        *_differ("control group of pod", sorted(told.groups), uids),
        *_differ("address", told.addresses, addresses),
    ]
    if len(told.namespaces) != len(addresses):
        found.append(
            f"{len(told.namespaces)} network namespaces for {len(addresses)} pods with addresses"
        )
    network = IPv4Network(pod_cidr)
    known = {*addresses, str(network[0]), str(network[1]), str(network[-1])}
    for rule in told.rules:
        for text in _ADDRESS.findall(rule):
            address = text.removesuffix("/32")
            if address not in known and _in(address, network):
                found.append(f"rule of {address}, which no pod has: {rule.strip()}")
    return found


def _differ(what: str, there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    extra, lacking = list(there), list(wanted)
    for one in wanted:
        if one in extra:
            extra.remove(one)
            lacking.remove(one)
    return [f"{what} too many: {one}" for one in extra] + [f"no {what} {one}" for one in lacking]


def _in(address: str, network: IPv4Network) -> bool:
    try:
        return IPv4Address(address) in network
    except ValueError:
        return False


def pods_of(items: Sequence[dict[str, Any]], node: str) -> list[Pod]:
    """
    The pods that run on a node.

    + items: of the API
    + node: its name
    """
    found = []
    for item in items:
        metadata, spec, status = (item[key] for key in ("metadata", "spec", "status"))
        if spec.get("nodeName") != node or status.get("phase") in ("Succeeded", "Failed"):
            continue
        # The uid of a static pod's mirror is another.
        uid = metadata.get("annotations", {}).get("kubernetes.io/config.hash", metadata["uid"])
        address = "" if spec.get("hostNetwork") else status.get("podIP", "")
        found.append(Pod(f"{metadata['namespace']}/{metadata['name']}", uid, address))
    return found
