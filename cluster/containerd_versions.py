"""
Which containerd reads which configuration and keys, and which one a distribution has, from
``data/containerd.json``.
"""

from __future__ import annotations

from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.packages import find
from pyinfra_kube.cluster.releases import minor_of, value_at

# Where nothing tells which one it will be.
NEWEST = "2.4"


def known_lines() -> str:
    """Return the lines of containerd that are known, for people: ``1.6-1.7, 2.0-2.2, 2.3-2.4``."""

    return ", ".join(table("containerd")["configuration"])


def newest_configuration(version: str) -> int | None:
    """
    Return the newest version of a configuration file that a containerd reads; ``None`` for one that
    is not known.

    + version: of containerd, such as ``1.7.24``

    ```
    >>> newest_configuration("2.1.9")
    3
    ```
    """

    return value_at(table("containerd")["configuration"], minor_of(version))


def cni_folder_keys(version: str) -> list[str]:
    """
    Return the keys that a containerd knows for the folders of CNI's plugins, the best first. It
    ignores others.

    + version: of containerd, such as ``2.0.7``

    ```
    >>> cni_folder_keys("2.0.7")
    ['bin_dir']
    ```
    """

    found = value_at(table("containerd")["cni_folders"], minor_of(version))
    return list(found or cni_folder_keys(NEWEST))


def of_distribution(system: str, release: str) -> str:
    """
    Return the line of containerd that a distribution has, or the newest known one.

    + system: the distribution's ``ID`` as its os-release has it, such as ``debian``
    + release: its ``VERSION_ID``, such as ``12``

    ```
    >>> of_distribution("debian", "13")
    '1.7'
    ```
    """

    return find(table("containerd")["distribution"].get(system, {}), release) or NEWEST
