"""
Manage CRI-O for a cluster: its configuration, crictl's, and its unit where no package has one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from pyinfra.api import StringCommand

from pyinfra_kube.cluster.runtimes import CRIO
from pyinfra_kube.cluster.spec.checks import mirror_location
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.containerd import CRICTL_CONFIG
from pyinfra_kube.facts.files import FileContents
from pyinfra_kube.operations.crictl import crictl_config
from pyinfra_kube.operations.files import File, plan_files

CONFIG = "/etc/crio/crio.conf.d/90-pyinfra-kube.conf"
POLICY = "/etc/crio/policy.json"
REGISTRIES = "/etc/containers/registries.conf.d/90-pyinfra-kube.conf"
UNIT = "/etc/systemd/system/crio.service"
_OURS = "set by pyinfra-kube"

# What CRI-O reads when it starts: for the ``config`` of a ``services.Unit``.
CONFIG_FILES = (CONFIG, REGISTRIES)


@operation()
def crio(
    sandbox_image: str,
    cni_bin_dir: str = "/opt/cni/bin",
    cni_conf_dir: str = "/etc/cni/net.d",
    network: str = "",
    program: str = "",
    pinned: Sequence[str] = (),
    mirrors: Mapping[str, Sequence[str]] | None = None,
    selinux: bool = False,
) -> Generator[StringCommand, None, None]:
    """
    Configure CRI-O, and crictl, for kubelet.

    What a cluster needs stands in files of our own beside those of a package, which stay as they
    are, and over them by its name. It may be set before CRI-O is installed. Restarting CRI-O is
    left to ``services``.

    + sandbox_image: the pause image, by its full name
    + cni_bin_dir: the folder of CNI's plugins
    + cni_conf_dir: the folder that describes CNI's networks
    + network: the name of the network that pods get; by default the one whose file comes first
    + program: path of a CRI-O that no package brought. It gets a unit, runs containers with runc,
      takes images without a signature, and those without a registry from docker.io
    + pinned: images that stay where nothing uses them
    + mirrors: registry → URLs of its mirrors, in their order
    + selinux: whether SELinux confines containers; a package has that set

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import crio, services

        crio.crio(
            name="Configure CRI-O",
            sandbox_image="registry.k8s.io/pause:3.10.2",
            cni_bin_dir="/usr/libexec/cni",
            network="pods",
        )
        services.services(
            name="Run CRI-O",
            units=[services.Unit("crio.service", config=crio.CONFIG_FILES)],
        )
    """

    told = read(FileContents, paths=[CRICTL_CONFIG, UNIT])
    config = render(
        f"{CONFIG[1:]}.j2",
        sandbox_image=sandbox_image,
        pinned=list(pinned),
        policy=POLICY if program else "",
        oci_runtime="runc" if program else "",
        cni_bin_dir=cni_bin_dir,
        cni_conf_dir=cni_conf_dir,
        network=network,
        selinux=selinux,
    )
    files = [File(CONFIG, config), _registries(bool(program), mirrors or {})]
    if program:
        files.append(File(POLICY, render(f"{POLICY[1:]}.j2"), if_absent=True))
        files.append(File(UNIT, render(f"{UNIT[1:]}.j2", program=program)))
    elif _OURS in told.get(UNIT, b"").decode(errors="replace").partition("\n")[0].lower():
        files.append(File(UNIT, kind="absent"))
    before = told[CRICTL_CONFIG].decode() if CRICTL_CONFIG in told else None
    files.append(crictl_config(before, CRIO.endpoint))
    yield from run_or_noop(plan_files(files), "CRI-O is configured as wanted")


def _registries(unqualified: bool, mirrors: Mapping[str, Sequence[str]]) -> File:
    """The mirrors of registries; a whole file, for CRI-O is not restarted for one that goes."""

    registries = [
        (
            registry,
            [{"location": mirror_location(url), "insecure": url[:5] == "http:"} for url in urls],
        )
        for registry, urls in sorted(mirrors.items())
    ]
    text = render(f"{REGISTRIES[1:]}.j2", unqualified=unqualified, registries=registries)
    return File(REGISTRIES, text)
