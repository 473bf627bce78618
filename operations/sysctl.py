"""
Manage kernel settings and the modules that they need.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping, Sequence

from pyinfra import logger
from pyinfra.api import OperationValueError, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.record import RECORDER
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.sysctl import Modules, Setting, Sysctls, SysctlSettings, path
from pyinfra_kube.operations.files import File, plan_files


@operation()
def sysctls(
    settings: Mapping[str, str | int],
    modules: Sequence[str] = (),
    file: str = "/etc/sysctl.d/99-kubernetes.conf",
    modules_file: str = "/etc/modules-load.d/kubernetes.conf",
    present: bool = True,
) -> Generator[StringCommand, None, None]:
    """
    Manage kernel settings and the modules that they need, now and at boot.

    A warning names a file that sets one of them to another value later at boot. ``present=False``
    removes the files and leaves the kernel's values.

    + settings: value by name
    + modules: kernel modules that some of the settings need; one that is neither loaded nor
      built in is loaded
    + file: file of the settings; all of it is ours
    + modules_file: file of the modules; all of it is ours
    + present: whether the files must exist

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import sysctl

        sysctl.sysctls(
            name="Forward packets, and pass bridged ones to iptables",
            settings={"net.ipv4.ip_forward": 1, "net.bridge.bridge-nf-call-iptables": 1},
            modules=["br_netfilter"],
        )
    """

    wanted = {key: _value(key, value) for key, value in settings.items()} if present else {}
    values = read(Sysctls, keys=list(wanted)) if wanted else {}
    states = read(Modules, modules=list(modules)) if modules and present else {}

    loading = _modules_to_load(states, values)
    setting = {key: value for key, value in wanted.items() if values.get(key) != value}
    for module in loading:
        changes.show(f"module {module}: absent → loaded")
    for key, value in setting.items():
        before = values.get(key)
        changes.show(f"sysctl {key}: {'absent' if before is None else before} → {value}")
    _warn_of_overriding(wanted, file)

    lines = [shlex.join(["note", "module", module, "absent"]) for module in loading]
    lines += [f"modprobe {shlex.quote(module)}" for module in loading]
    lines += [
        shlex.join(["note", "sysctl", key, before])
        for key in setting
        if (before := values.get(key)) is not None
    ]
    lines += [f"echo {shlex.quote(v)} > {shlex.quote(path(k))}" for k, v in setting.items()]
    parts = [*(f"load {m}" for m in loading), *(f"set {k} = {v}" for k, v in setting.items())]
    live = Script(RECORDER + "\n".join(lines), summary=", ".join(parts))
    yield from run_or_noop(
        join([live if lines else None, plan_files(_files(wanted, states, file, modules_file))]),
        "kernel settings are as wanted" if present else f"{file} is absent",
    )


def _value(key: str, value: str | int) -> str:
    text = str(int(value)) if isinstance(value, bool) else " ".join(str(value).split())
    if not text or not key or key.split() != [key]:
        raise OperationValueError(f"settings: {key!r}: {value!r} is not a name and a value")
    return text


def _modules_to_load(states: Mapping[str, str], values: Mapping[str, str | None]) -> list[str]:
    """
    Modules that the kernel lacks. Where a host cannot tell, such as a container, a missing setting
    tells it.
    """

    lacking = ["available", "missing"]
    if any(value is None for value in values.values()):
        lacking.append("unknown")
    return [module for module, state in states.items() if state in lacking]


def _files(
    wanted: Mapping[str, str], states: Mapping[str, str], file: str, modules_file: str
) -> list[File]:
    # A module that the host does not have would fail systemd-modules-load at every boot.
    kept = [module for module, state in states.items() if state != "unknown"]
    settings = render("etc/sysctl.d/99-kubernetes.conf.j2", settings=wanted)
    loaded = render("etc/modules-load.d/kubernetes.conf.j2", modules=kept)
    return [
        File(name, text) if text else File(name, kind="absent")
        for name, text in {file: settings, modules_file: loaded}.items()
    ]


def _warn_of_overriding(wanted: Mapping[str, str], file: str) -> None:
    """Warn, once a run, of each other file that wins at the next boot."""

    if not wanted or ctx_state.get().is_executing:
        return
    for setting in _winning(read(SysctlSettings), file):
        if wanted.get(setting.key, setting.value) != setting.value:
            ctx_host.get().log(
                f"{setting.file} sets {setting.key} = {setting.value} at boot, after {file}",
                logger.warning,
            )


def _winning(settings: list[Setting], file: str) -> list[Setting]:
    """The last setting of each key in the files that are read after ours."""

    ours = file.rsplit("/", 1)[-1]
    later = [
        setting
        for setting in settings
        if setting.file == "/etc/sysctl.conf" or setting.file.rsplit("/", 1)[-1] > ours
    ]
    return list({setting.key: setting for setting in later}.values())
