"""The pods' range, cut into equal shares, and which node has which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from netaddr import IPNetwork

from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.networks import overlap
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.ranges import node_capacity, pod_range, pod_range_key


class Shares:
    """The pods' range cut into numbered shares, one a node."""

    def __init__(self, spec: ClusterSpec) -> None:
        self.spec = spec
        self.names = [node.name for node in spec.nodes]
        self.range, self.prefix = pod_range(spec)
        self.holders: dict[int, str] = {}
        self.given: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    @property
    def reserved(self) -> int:
        return len(self.holders) - len(self.given)

    def network(self, name: str) -> IPNetwork:
        first = self.range.first + (self.given[name] << (32 - self.prefix))
        return IPNetwork((first, self.prefix))

    def reserve(self, source: Mapping[str, str]) -> None:
        """Keep free what hosts hold that are no nodes."""
        for name, text in source.items():
            if name not in self.names:
                touched = self._touched(IPNetwork(text).cidr)
                self.holders.update(dict.fromkeys(touched, name))

    def choose(self) -> None:
        """Give nodes the networks that their data says."""
        for node in self.spec.nodes:
            if node.pod_cidr:
                self._claim(node.name, IPNetwork(node.pod_cidr), "its pod_cidr")

    def keep(self, source: Mapping[str, str], why: str) -> None:
        """Let nodes that have no network yet have the one that they had."""
        for name in self.names:
            if name in source and name not in self.given:
                self._claim(name, IPNetwork(source[name]).cidr, why)

    def compare(self, current: Mapping[str, str], why: str) -> None:
        """Say which nodes would not keep what they have, for their data says otherwise."""
        for name in (name for name in self.given if name in current):
            if (network := IPNetwork(current[name]).cidr) != self.network(name):
                wrong = Problem("pod_cidr", str(self.network(name)), name, f"{network}, {why}")
                self._conflict(wrong, network, why)

    def fill(self) -> None:
        """Give the first free shares to the nodes that have none."""
        waiting = [name for name in self.names if name not in self.given]
        free = (i for i in range(node_capacity(self.spec)) if i not in self.holders)
        for name, share in zip(waiting, free, strict=False):
            self.given[name] = share
        self.holders |= {share: name for name, share in self.given.items()}
        if rest := [name for name in waiting if name not in self.given]:
            gone = ", ".join(sorted(set(self.holders.values()) - set(self.names)))
            allowed = f"a range with a /{self.prefix} left for {', '.join(rest)}"
            fix = f"a larger range, or take {gone} out of addresses.yaml, if it is gone for good"
            self.problems.append(Problem("cluster_cidr", str(self.range), None, allowed, fix))

    def _claim(self, name: str, network: IPNetwork, why: str) -> None:
        touched = self._touched(network)
        if network.prefixlen != self.prefix or not touched:
            allowed = f"a range with {network} as one of its /{self.prefix}: {why}"
            wrong = Problem(pod_range_key(self.spec), str(self.range), name, allowed)
            self._conflict(wrong, network, why)
        elif touched[0] in self.holders:
            allowed = f"a network of its own: {self.holders[touched[0]]} has it too ({why})"
            self._conflict(Problem("pod_cidr", str(network), name, allowed), network, why)
        else:
            self.given[name], self.holders[touched[0]] = touched[0], name

    def _conflict(self, problem: Problem, network: IPNetwork, why: str) -> None:
        if self.spec.allow_network_change:
            self.warnings.append(f"{problem.host} gets another pod CIDR than {network}, {why}")
        else:
            fix = "set allow_network_change = True, to renumber the node and restart its pods"
            self.problems.append(replace(problem, fix=fix))

    def _touched(self, network: IPNetwork) -> range:
        """The shares that a network overlaps."""
        if not overlap(network, self.range):
            return range(0)
        first = max(network.first, self.range.first) - self.range.first
        last = min(network.last, self.range.last) - self.range.first
        return range(first >> (32 - self.prefix), (last >> (32 - self.prefix)) + 1)
