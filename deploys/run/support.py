"""What a host is asked for an archive of support: the shell that prints each file."""

from __future__ import annotations

import shlex

from pyinfra_kube.cluster.components import COMPONENTS, PODS
from pyinfra_kube.cluster.runtimes import DOCKER, RUNTIMES
from pyinfra_kube.cluster.runtimes.crictl import Crictl
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.deploys.run.questions import KUBECTL, of_etcd
from pyinfra_kube.operations.log_rotation import LOGS

_LINES = 2000

_HOST = {
    "system.txt": "uname -a; cat /etc/os-release; uptime; date; timedatectl 2>/dev/null",
    "resources.txt": "free -m; df -h; df -i; cat /proc/swaps /proc/loadavg; nproc",
    # Arguments of others may be secrets; which pod or unit it is, its control group tells.
    "processes.txt": "ps -eo pid,ppid,user,rss,etime,comm,cgroup:150 --sort=-rss | head -n 150",
    "addresses.txt": "ip -d address; ip -s link; ip neigh; bridge link 2>/dev/null",
    "routes.txt": "ip rule; ip -4 route show table all; ip -6 route",
    "iptables.txt": "iptables-save 2>/dev/null; iptables-legacy-save 2>/dev/null",
    "nft.txt": "nft list ruleset 2>/dev/null",
    "ports.txt": "ss -tulpn",
    "kernel-settings.txt": "sysctl -a 2>/dev/null | "
    "grep -E '^(net.ipv4|net.bridge|net.netfilter|vm|fs)'",
    "units.txt": "systemctl list-units --all --no-pager; systemctl --failed --no-pager",
    "names.txt": "cat /etc/hosts /etc/resolv.conf /etc/nsswitch.conf; "
    "cat /run/systemd/resolve/resolv.conf 2>/dev/null",
    "cni.txt": "ls -l /etc/cni/net.d /opt/cni/bin /usr/lib/cni 2>/dev/null; "
    "tail -n +1 /etc/cni/net.d/* 2>/dev/null",
    "flannel.txt": "cat /run/flannel/subnet.env /etc/kube-flannel/net-conf.json 2>/dev/null",
    "configuration.txt": "tail -n +1 /etc/kubernetes/config /etc/kubernetes/apiserver "
    "/etc/kubernetes/kubelet /etc/kubernetes/proxy /etc/kubernetes/scheduler "
    "/etc/kubernetes/controller-manager /etc/etcd/etcd.conf /var/lib/kubelet/config.yaml "
    "/var/lib/kube-proxy/config.yaml /srv/kubernetes/kube-scheduler.yaml "
    "/etc/crictl.yaml 2>/dev/null",
    "runtime.txt": "tail -v -n +1 "
    f"{' '.join(path for one in RUNTIMES.values() for path in one.configuration)} 2>/dev/null",
    "certificates.txt": "for file in /srv/kubernetes/*.crt /var/lib/kubelet/pki/*.crt; do "
    'echo "$file"; openssl x509 -noout -subject -issuer -dates -ext subjectAltName <"$file"; done',
    "log-kernel.txt": f"journalctl --no-pager --quiet -k -n {_LINES // 4}",
    "log-files.txt": f"ls -t {' '.join(LOGS)} 2>/dev/null | head -n 20 | "
    f"xargs -r tail -v -n {_LINES // 4}",
    "log-errors.txt": f"journalctl --no-pager --quiet -p warning -n {_LINES // 4}",
}
_UNITS = (
    *(one.unit.removesuffix(".service") for one in RUNTIMES.values()),
    *("flanneld", *COMPONENTS),
)

API = {
    "events.json": "/api/v1/events?limit=1000",
    "nodes.json": "/api/v1/nodes",
    "pods.json": "/api/v1/pods?limit=500",
    "deployments.json": "/apis/apps/v1/deployments?limit=500",
    "daemonsets.json": "/apis/apps/v1/daemonsets?limit=500",
    "services.json": "/api/v1/services?limit=500",
    "leases.json": "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
    "policies.json": "/apis/networking.k8s.io/v1/networkpolicies",
    "endpoints.json": "/apis/discovery.k8s.io/v1/endpointslices?limit=500",
    "coredns.json": "/api/v1/namespaces/kube-system/configmaps/coredns",
    "version.json": "/version",
}
"""Files with what the API has, and the path of it."""


def questions(cluster: Cluster) -> dict[str, str]:
    """
    Give what the current host is asked. A daemon that does not run is asked nothing.

    + cluster: the cluster
    """

    found = dict(_HOST)
    for unit in _UNITS:
        found[f"log-{unit}.txt"] = (
            f"journalctl --no-pager --quiet -n {_LINES} -u {unit}.service; "
            f"systemctl status --no-pager --lines=0 {unit}.service 2>/dev/null"
        )
        found[f"unit-{unit}.txt"] = (
            f"systemctl cat {unit}.service 2>/dev/null; pid=$(systemctl show -p MainPID "
            f'{unit}.service | cut -d = -f 2); [ "$pid" = 0 ] || '
            "tr '\\0' '\\n' </proc/$pid/cmdline"
        )
    found |= _of_runtime(cluster) | {"manifests.txt": _manifests(cluster)}
    if cluster.is_a("control_plane"):
        found |= {name: f"{KUBECTL}{_get(path)}" for name, path in API.items()}
        found["ready.txt"] = f"{KUBECTL}{_get('/readyz?verbose')}"
    if cluster.is_a("etcd"):
        spec = cluster.spec
        version = spec.etcd_version or cluster.release.etcd_version
        both = cluster.is_a("control_plane")
        asked = of_etcd(spec.etcd_client_port, spec.etcd_tls, version, both)
        found |= {f"{name.replace(' ', '-')}.json": question for name, question in asked.items()}
    return found


def _get(path: str) -> str:
    """Up to 1.8 what runs pods has another path, and up to 1.15 there is no /readyz."""

    old = path.replace("apps/v1", "extensions/v1beta1").replace("readyz", "healthz")
    return f"get '{path}'" + (f" 2>/dev/null || get '{old}'" if old != path else "")


def _manifests(cluster: Cluster) -> str:
    """Others' static pods are named: what is in them may be secret."""

    folder = shlex.quote(str(cluster.spec.manifest_dir))
    own = " ".join(f"{folder}/{name}.yaml" for name in PODS)
    return f"ls -l {folder} 2>/dev/null; tail -v -n +1 {own} 2>/dev/null"


def _of_runtime(cluster: Cluster) -> dict[str, str]:
    """Containers, images, and the logs of the cluster's own containers."""

    runtime = cluster.runtime
    guard = f"{runtime.guard}\n{runtime.runs} || {{ echo it does not run; exit; }}\n"
    if runtime is DOCKER:
        ids = "docker ps --all --quiet --filter label=io.kubernetes.pod.namespace=kube-system"
        shown, name = "docker info; docker ps --all; docker images", "docker inspect -f '{{.Name}}'"
        logs = f"docker logs --tail {_LINES // 4}"
    else:
        crictl = Crictl(runtime.endpoint).program
        ids = f"{crictl} ps --all --quiet --label io.kubernetes.pod.namespace=kube-system"
        shown = f"{crictl} version; {crictl} info; {crictl} ps --all; {crictl} images --digests"
        logs, name = f"{crictl} logs --tail {_LINES // 4}", f"{crictl} ps --all --id"
    each = (
        f'for id in $({ids} | head -n 20); do echo "== $id"; {name} "$id"; {logs} "$id" 2>&1; done'
    )
    return {"containers.txt": f"{guard}{shown}", "log-containers.txt": f"{guard}{each}"}
