"""
Manage containerd for a cluster: its configuration, crictl's, and its unit where no package has one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from urllib.parse import urlsplit

from pyinfra.api import OperationError, StringCommand

from pyinfra_kube.cluster.containerd_versions import NEWEST
from pyinfra_kube.cluster.runtimes import CONTAINERD
from pyinfra_kube.cluster.runtimes.containerd_config import (
    Wanted,
    keys_of,
    merge,
    registries_of,
    version_of,
)
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.containerd import (
    CONFIG,
    PACKAGED,
    REGISTRIES,
    UNIT,
    Containerd,
    ContainerdState,
)
from pyinfra_kube.operations.crictl import crictl_config
from pyinfra_kube.operations.files import File, plan_files

_TEMPLATES = {2: "etc/containerd/config-version-2.toml.j2", 3: "etc/containerd/config.toml.j2"}
_OURS = "set by pyinfra-kube"
# Where a registry answers, if not at its own name.
_SERVERS = {"docker.io": "registry-1.docker.io"}


@operation()
def containerd(
    sandbox_image: str,
    cni_bin_dir: str = "/opt/cni/bin",
    cni_conf_dir: str = "/etc/cni/net.d",
    version: str = "",
    program: str = "",
    mirrors: Mapping[str, Sequence[str]] | None = None,
    selinux: bool = False,
) -> Generator[StringCommand, None, None]:
    """
    Configure containerd, and crictl, for kubelet.

    Where there is no config.toml, a whole one is written, which may be before containerd is
    installed. In one of somebody else only the keys that a cluster needs are set: the pause image,
    CNI's folders, control groups by systemd, the folder of registries, unless the file names
    registries itself. All else in it stays. Restarting containerd is left to ``services``.

    + sandbox_image: the pause image, by its full name
    + cni_bin_dir: the folder of CNI's plugins
    + cni_conf_dir: the folder that describes CNI's networks
    + version: which containerd it is; by default the one that a package has installed, or else the
      newest known one
    + program: path of a containerd that no package brought, which gets a unit
    + mirrors: registry → URLs of its mirrors, in their order; ``_default`` is any other registry.
      containerd reads them at each pull, and needs no restart. Those that are no longer named go
    + selinux: whether SELinux confines containers; what the file says itself stays

    Fails for a config.toml that is no TOML, that this containerd cannot read, or that has another
    socket; and for mirrors, where it has another folder of registries, or the registry a hosts.toml
    of somebody else.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import containerd, services

        containerd.containerd(
            name="Configure containerd",
            sandbox_image="registry.k8s.io/pause:3.10.2",
            cni_bin_dir="/usr/lib/cni",
            mirrors={"registry.k8s.io": ["https://mirror.example.com"]},
        )
        services.services(
            name="Run containerd",
            units=[services.Unit("containerd.service", config=containerd.CONFIG_FILES)],
        )
    """

    state = read(Containerd)
    packaged = "" if program else state.versions.get(PACKAGED, "")
    runs = packaged or version or NEWEST
    wanted = Wanted(sandbox_image, cni_bin_dir, cni_conf_dir, runs, selinux)
    try:
        config = _config(state, wanted)
        files = [config, *_mirrors(state, str(config.content), mirrors or {})]
    except ValueError as error:
        raise OperationError(f"{CONFIG}: {error}; mend it, or move it away") from error
    files.append(crictl_config(state.crictl_config, CONTAINERD.endpoint))
    if program:
        files.append(File(UNIT, render(f"{UNIT[1:]}.j2", program=program)))
    elif state.unit and is_ours(state.unit):
        files.append(File(UNIT, kind="absent"))
    yield from run_or_noop(plan_files(files), "containerd is configured as wanted")


# What containerd reads when it starts: for the ``config`` of a ``services.Unit``.
CONFIG_FILES = (CONFIG,)


def is_ours(text: str) -> bool:
    """
    Return whether a file is one that this module wrote as a whole.

    + text: of the file
    """

    return _OURS in text.partition("\n")[0].lower()


def _config(state: ContainerdState, wanted: Wanted) -> File:
    text = state.config
    if text is None:
        return File(CONFIG, _whole(wanted, wanted.version))
    if not text.strip() or (is_ours(text) and _is_stale(text, wanted)):
        # Others' keys are not shown: they may be secrets.
        new = _whole(wanted, wanted.version)
        return File(CONFIG, new, keep=True, shown=("", new))
    merged = merge(text, wanted)
    return File(CONFIG, merged.text, keep=True, shown=(merged.before, merged.after))


def _whole(wanted: Wanted, version: int) -> str:
    return render(
        _TEMPLATES[version],
        sandbox_image=wanted.sandbox_image,
        several=wanted.several,
        cni_bin_dir=wanted.cni_bin_dir,
        cni_conf_dir=wanted.cni_conf_dir,
        selinux=wanted.selinux,
    )


def _is_stale(text: str, wanted: Wanted) -> bool:
    """
    Whether a file of ours is damaged, or of the version that another containerd needed and without
    a key of somebody else.
    """

    try:
        version = version_of(text)
        if version == wanted.version or version not in _TEMPLATES:
            return False
        # In place of bin_dir it may say bin_dirs.
        return len(keys_of(text)) == len(keys_of(_whole(wanted, version)))
    except ValueError:
        return True


def _mirrors(
    state: ContainerdState, config: str, mirrors: Mapping[str, Sequence[str]]
) -> list[File]:
    """The hosts.toml of each registry that has mirrors, and those of ours that go."""

    folders = registries_of(config)
    if mirrors and REGISTRIES not in folders:
        raise OperationError(
            f"{CONFIG}: it has mirrors of registries in {' and '.join(folders) or 'itself'}, and "
            f"registry_mirrors are set in {REGISTRIES}; have its config_path be that, or leave "
            "registry_mirrors out"
        )
    files = []
    for registry in sorted({*state.hosts, *mirrors}):
        path = f"{REGISTRIES}/{registry}/hosts.toml"
        ours = is_ours(state.hosts.get(registry, _OURS))
        if registry in mirrors and not ours:
            raise OperationError(
                f"{path}: it is somebody else's; move it away, or take {registry} out of "
                "registry_mirrors"
            )
        if registry in mirrors:
            files.append(File(path, _hosts(registry, mirrors[registry])))
        elif ours:
            files.append(File(path, kind="absent"))
    return files


def _hosts(registry: str, urls: Sequence[str]) -> str:
    return render(
        f"{REGISTRIES[1:]}/hosts.toml.j2",
        registry="any other registry" if registry == "_default" else registry,
        server="" if registry == "_default" else _SERVERS.get(registry, registry),
        mirrors=[{"url": url, "has_path": urlsplit(url).path not in ("", "/")} for url in urls],
    )
