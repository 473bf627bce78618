"""docs/hosts.md, made from the table of findings: `make settings`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyinfra_kube.cluster.fitness.findings import FINDINGS, Finding
from tests.settings import table

PAGE = Path(__file__).parents[1] / "docs/hosts.md"

HEAD = """\
# What a host must be

Each host is looked at before the first change, in the round trip that gathers its facts. All
findings of all hosts are said at once, each with its fix:

```
2 things are wrong with the hosts; no host was touched:
  kube-node-1: swap = '/dev/sda2'; allowed: none: kubelet does not start beside swap; fix: …
  kube-node-2: port tcp 10250 of kubelet = 'nginx (pid 71)'; allowed: free, or used by the
  component itself; fix: systemctl disable --now nginx.service
```

What is *refused* ends the run. What is *refused on new hosts* is only said of a host that already
carries a part of the cluster. What is *said* is a notice of the plan. `deploys/remove_node.py`
looks at nothing of this, so that a node can leave an unfit host.

What a host does not tell makes it no worse: a tool that it lacks, the kernel modules and the
product_uuid of a container. resolv.conf may name 127.0.0.53: kubelet then gets the file of
systemd-resolved with the real nameservers. cgroup v1 is accepted in every release, with a notice
from 1.31 on.

A host's other limits are found by the steps that meet them: a firewall that stops packets, an MTU,
a name that leads elsewhere, a host that does not answer another one, etcd's data of another
cluster.

This page is made from [cluster/fitness/findings.py](../cluster/fitness/findings.py) by
`make settings`.

"""

_REFUSED = {"always": "refused", "new": "refused on new hosts", "never": "said"}


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    """The text of the page."""
    head = ["what", "read from", "on", "must be", "fix", "otherwise"]
    return HEAD + table(head, map(_row, FINDINGS))


def _row(one: Finding) -> list[str]:
    wrong = {"of": "…", "value": "…", "fix": "…"}
    return [
        one.key.format(**wrong).replace(" …", "").removesuffix(" of"),
        one.reads,
        ", ".join(_matters(one)) or "all hosts",
        one.allowed.format(**wrong),
        f"`{one.fix.format(**wrong)}`".replace("……", "…")
        if one.fix != "{fix}"
        else "as the error says",
        _REFUSED[one.refused],
    ]


def _matters(one: Finding) -> Iterator[str]:
    if one.releases != "1.2-":
        first, _, last = one.releases.partition("-")
        yield f"Kubernetes {first} to {last}" if last else f"Kubernetes {first} and newer"
    if one.matters:
        yield one.matters


if __name__ == "__main__":
    main()
