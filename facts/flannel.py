"""
Flannel on a host: what flanneld wrote, and what docker makes of it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.cluster.flannel import PREFIX, Lease, SubnetEnv, parse_leases, read_subnet_env
from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import SHOW
from pyinfra_kube.facts.etcd import Keys, Status
from pyinfra_kube.facts.systemd import variables

SUBNET_FILE = "/run/flannel/subnet.env"
DOCKER_FILE = "/run/flannel/docker"


@dataclass(frozen=True)
class FlannelState(Printable):
    """
    What :class:`Flannel` returns.

    + version: of flanneld; ``None`` where it is not installed, empty where it does not tell
    + running: whether it runs
    + subnet: what subnet.env says; ``None`` where flanneld has written none
    + docker: the variables that it wrote for docker
    + docker_start: the command line of docker's unit, variables unexpanded; empty for no docker
    + docker_words: the command line of the docker that runs; empty where none does
    + docker_follows: whether docker's unit requires flannel's, and so restarts along with it
    """

    version: str | None = None
    running: bool = False
    subnet: SubnetEnv | None = None
    docker: dict[str, str] = field(default_factory=dict)
    docker_start: str = ""
    docker_words: tuple[str, ...] = ()
    docker_follows: bool = False


class Flannel(FactBase[FlannelState]):
    """
    Returns what flannel did on this host, and what docker was told of it.

    + binary: flanneld's name or path
    + subnet_file, docker_file: what it writes

    .. code:: python

        FlannelState(
            version="0.5.5",
            running=True,
            subnet=SubnetEnv(subnet="18.16.29.1/24", mtu=1450, network="18.16.0.0/16"),
            docker={"DOCKER_NETWORK_OPTIONS": "--bip=18.16.29.1/24 --ip-masq=true --mtu=1450"},
            docker_start="/usr/bin/dockerd -H fd:// $OPTIONS $DOCKER_NETWORK_OPTIONS",
            docker_words=("/usr/bin/dockerd", "-H", "fd://", "--bip=18.16.29.1/24"),
            docker_follows=True,
        )
    """

    @staticmethod
    @override
    def default() -> FlannelState:
        return FlannelState()

    @override
    def command(
        self,
        binary: str = "flanneld",
        subnet_file: str = SUBNET_FILE,
        docker_file: str = DOCKER_FILE,
    ) -> str:
        program, subnet, docker = map(shlex.quote, (binary, subnet_file, docker_file))
        return f"""\
if command -v {program} >/dev/null 2>&1; then
echo "version $(timeout 5 {program} --version 2>&1 | head -n 1)"
fi
lines() {{
[ -e "$2" ] || return 0
text=$(cat "$2") || exit 1
printf '%s\\n' "$text" | sed "s/^/$1 /"
}}
lines subnet {subnet}
lines docker {docker}
{SHOW}
show flanneld.service Id
case $shown in *ActiveState=active*|*ActiveState=reloading*) echo running ;; esac
show docker.service ExecStart,MainPID,Requires
printf '%s\\n' "$shown" | sed -n 's/^ExecStart=.*argv\\[\\]=\\(.*\\) ; ignore_errors=.*/start \\1/p'
printf '%s\\n' "$shown" | sed -n 's/^Requires=.*flanneld[.]service.*/follows/p'
pid=$(printf '%s\\n' "$shown" | sed -n 's/^MainPID=//p')
if [ "${{pid:-0}}" != 0 ] && [ -r "/proc/$pid/cmdline" ]; then
tr '\\n\\0' ' \\n' < "/proc/$pid/cmdline" | sed 's/^/word /'
fi"""

    @override
    def process(self, output: Iterable[str]) -> FlannelState:
        lines: dict[str, list[str]] = {}
        for line in output:
            word, _, rest = line.partition(" ")
            lines.setdefault(word, []).append(rest)
        shown = "".join(lines.get("version", []))
        version = re.search(r"\d+(\.\d+)+[\w.-]*", shown)
        return FlannelState(
            version=(version[0] if version else "") if "version" in lines else None,
            running="running" in lines,
            subnet=_subnet("\n".join(lines.get("subnet", []))),
            docker=variables("\n".join(lines.get("docker", []))),
            docker_start="".join(lines.get("start", [])),
            docker_words=tuple(lines.get("word", [])),
            docker_follows="follows" in lines,
        )


def _subnet(text: str) -> SubnetEnv | None:
    try:
        return read_subnet_env(variables(text))
    except ValueError as error:
        fix = "restart flanneld, which writes it anew"
        raise FactProcessError(f"{SUBNET_FILE}: {error}; {fix}") from error


@dataclass(frozen=True)
class LeaseStates:
    """
    What flannel has in etcd.

    + status: ``ok``, or why there is no answer
    + config: the value of ``PREFIX/config``; ``None`` where it is not set
    + leases: by their subnets
    + said: what etcd, or curl, said where it is not ok
    """

    status: Status = "down"
    config: str | None = None
    leases: tuple[Lease, ...] = ()
    said: str = ""


def lease_states(keys: Keys, prefix: str = PREFIX) -> LeaseStates:
    """
    Read flannel's keys.

    + keys: what ``EtcdKeys`` returns for the prefix
    + prefix: the key in etcd under which flannel's keys are

    .. code:: python

        found = read(EtcdKeys, endpoints=endpoints, prefix=f"{prefix}/", api="v2")
        lease_states(found, prefix)
    """

    values = {path: state.value for path, state in keys.keys.items()}
    leases = tuple(parse_leases(values, prefix))
    return LeaseStates(keys.status, values.get(f"{prefix}/config"), leases, keys.said)
