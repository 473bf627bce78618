"""What a release has lost or is about to lose, one line each, read from ``data/notices.json``."""

from __future__ import annotations

from typing import Literal

from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.releases import Release, covers

Used = Literal["cgroup v1", "containerd 1", "etcd without TLS", "ipvs", "old etcd"]


def notices(release: Release, *used: Used, running: bool = False) -> list[str]:
    """
    Give what a plan has to say of a release.

    + release: the Kubernetes release
    + used: what the cluster uses besides
    + running: whether the cluster runs already: then only what it uses is said

    ```
    >>> notices(Release.of("1.37.2"), "ipvs")[-1]
    "ipvs: kube-proxy's mode is deprecated since 1.35 and goes with 1.43; use nftables"
    ```
    """
    about = used if running else ("", *used)
    return [
        row["says"]
        for row in table("notices")["notices"]
        if covers(row["in"], release.minor) and row.get("about", "") in about
    ]
