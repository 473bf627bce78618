"""
Manage CNI's description of the pod network.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import OperationError, StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.cni import Cni
from pyinfra_kube.facts.files import Files
from pyinfra_kube.operations.files import File, plan_files

CONF_DIR = "/etc/cni/net.d"
CONFLIST = f"{CONF_DIR}/10-pods.conflist"
# What the description calls it.
NETWORK = "pods"
# containerd watches the folder: it hears of no link that is new there, nor of what a link leads to,
# but of a file that goes. This one comes before the change, for a run may be killed in between.
_MARK = f"{CONF_DIR}/.pyinfra-kube"
_NOTE = f"[ ! -L {CONFLIST} ] || : > {_MARK}\n"
_LOOK_AGAIN = f"rm -f {_MARK}\n"
PLUGINS = ("bridge", "host-local", "loopback", "portmap")


@operation()
def pod_network(
    subnet: str,
    bridge: str = "cbr0",
    mtu: int = 1460,
    bin_dir: str = "/opt/cni/bin",
    required: Sequence[str] = (),
    by_name: bool = False,
) -> Generator[StringCommand, None, None]:
    """
    Have a container runtime give pods addresses of a subnet, on a bridge of the host.

    The bridge has the subnet's first address: an existing one with another is refused by CNI. A
    runtime takes up the description at once, and running pods keep what they have.

    + subnet: the node's pod CIDR
    + bridge: name of the bridge
    + mtu: what it carries, in bytes
    + bin_dir: the folder of CNI's plugins
    + required: plugins that must be there already
    + by_name: whether the runtime is told the network's name, ``pods``

    Fails where a network of somebody else comes first by the name of its file, for a runtime that
    is told none uses that, and where a required plugin lacks.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import cni

        cni.pod_network(name="Describe the pod network", subnet="10.10.1.0/24")
    """

    state = read(Cni, conf_dir=CONF_DIR, bin_dir=bin_dir)
    unheard = _MARK in read(Files, paths=[_MARK], digest=False)
    own = CONFLIST.rpartition("/")[2]
    if not by_name and (first := [name for name in state.configurations if name < own]):
        raise OperationError(
            f"{CONF_DIR}/{first[0]}: a container runtime uses it in place of {own}, because its "
            "name comes first; move it away, or rename it to come later"
        )
    if lacking := [name for name in required if name not in state.plugins]:
        raise OperationError(
            f"{bin_dir}: it has no {', '.join(lacking)}, and nothing installs CNI plugins; install "
            "them there (containernetworking-plugins), or set install_packages or runtime_source"
        )
    text = render(f"{CONFLIST[1:]}.j2", subnet=subnet, bridge=bridge, mtu=mtu)
    script = plan_files([File(CONFLIST, text, "600")])
    if script:
        script = Script(_NOTE + script.text + _LOOK_AGAIN, script.summary)
    elif unheard:
        changes.show(f"{CONFLIST}: the runtime has not heard of it → looks again")
        script = Script(_LOOK_AGAIN, "have the runtime look again")
    yield from run_or_noop(script, "the pod network is described")


@operation()
def pod_network_absent() -> Generator[StringCommand, None, None]:
    """
    Remove our description of the pod network; those of others stay. Pods that run keep the network
    that they have: where its bridge goes too, they must be made anew.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import cni

        cni.pod_network_absent(name="Remove the description of the pod network")
    """

    script = plan_files([File(CONFLIST, kind="absent")])
    if script:
        script = Script(script.text + _LOOK_AGAIN, script.summary)
        changes.say("pods that run keep the network that they have, and must be made anew")
    yield from run_or_noop(script, "it is not there")
