"""
What a host must have to carry its part of a cluster: a table of findings, each with its fix.

Thresholds and reasons are Kubernetes' own: kubeadm's preflight checks
(``cmd/kubeadm/app/preflight``), what kubelet checks when it starts (``pkg/kubelet/cm``), and the
defaults of its eviction (``pkg/kubelet/eviction``). What a host did not tell is no finding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.fitness.findings import FINDINGS
from pyinfra_kube.cluster.fitness.states import Case
from pyinfra_kube.cluster.releases import covers


class Verdict(NamedTuple):
    """
    A finding on a host.

    + problem: which one, with its fix
    + refused: whether the host cannot carry the cluster with it
    """

    problem: Problem
    refused: bool


def judge(cases: Iterable[Case]) -> list[Verdict]:
    """
    Return every finding of every host.

    + cases: the hosts

    ```
    >>> state = HostState(memory=900)
    >>> [str(verdict.problem) for verdict in judge([Case(host, spec, release, state)])]
    ["m1: memory = '900 MB'; allowed: at least 1700 MB on a host of the control plane, …"]
    ```
    """

    return [
        Verdict(
            Problem(
                finding.key.format(**wrong._asdict()),
                wrong.value,
                case.host.name,
                finding.allowed.format(**wrong._asdict()),
                finding.fix.format(**wrong._asdict()),
            ),
            finding.refused == "always" or (finding.refused == "new" and not case.ours),
        )
        for case in cases
        for finding in FINDINGS
        if covers(finding.releases, case.release.minor)
        for wrong in finding.wrong(case)
    ]
