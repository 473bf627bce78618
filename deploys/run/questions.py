"""
The questions that verification asks a host, as shell: none writes a file, starts anything, or needs
longer than its time.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from netaddr import IPNetwork

from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.components.etcd import CLIENT
from pyinfra_kube.cluster.kinds import path_of
from pyinfra_kube.deploys.phases.addons import dns_query
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.etcd import client_files
from pyinfra_kube.facts.etcd import GATEWAYS, curl

_KERNEL = ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables")

# kubectl without a cache: all of it is asked by path.
KUBECTL = f"""\
kubectl=/usr/local/bin/kubectl; [ -x $kubectl ] || kubectl=kubectl
get() {{ HOME=/proc NO_PROXY=* no_proxy=* $kubectl --kubeconfig={ADMIN} get --raw="$@"; }}
"""
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
# Those that it makes itself.
_BINDINGS = (
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    "?labelSelector=kubernetes.io%2Fbootstrapping%3Drbac-defaults"
)
_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
# Only what some release will no longer have; of others there is no end.
_DEPRECATED = """\
said=$(get /metrics) || exit 1
printf '%s\\n' "$said" | tr -d '"' |
sed -n 's/^apiserver_requested_deprecated_apis{\\(.*\\)} 1$/,\\1,/p' |
awk -F, '{ split("", has); for (i = 1; i <= NF; i++) { split($i, at, "="); has[at[1]] = at[2] }
if (has["removed_release"]) print has["group"] "/" has["version"] ":" has["resource"] \\
",until=" has["removed_release"] }' | sort -u"""

OF_API = {
    # The old name is known to every release.
    "ready": "get '/healthz?verbose'",
    "now": "date +%s",
    "nodes": "get /api/v1/nodes",
    "leases": f"get {_LEASES}",
    "pods": "get '/api/v1/pods?limit=2000'",
    "policies": f"get {_POLICIES}",
    "deployments": "get '/apis/apps/v1/deployments?limit=500'",
    "services": "get /apis/apiregistration.k8s.io/v1/apiservices",
    "namespaces": "get /api/v1/namespaces",
    "bindings": f"get '{_BINDINGS}'",
    "validating webhooks": f"get {_WEBHOOKS}/validatingwebhookconfigurations",
    "mutating webhooks": f"get {_WEBHOOKS}/mutatingwebhookconfigurations",
    "slices": f"get '{_SLICES}?limit=2000'",
    "deprecated": _DEPRECATED,
}
"""Questions to the API, on a host of the control plane."""

_KUBECONFIGS = (
    f"{CONFIG_DIR}/*kubeconfig* /var/lib/kubelet/kubeconfig /var/lib/kube-proxy/kubeconfig "
    "/etc/kube-flannel/kubeconfig"
)
_CERTIFICATES = rf"""
show() {{
[ -r "$1" ] || return 0
echo "file $1"
sed -n '/-----BEGIN CERT/,/-----END CERT/p
/certificate-authority-data:/p
/client-certificate-data:/p' "$1"
}}
for file in {CONFIG_DIR}/*.crt {CONFIG_DIR}/kube-*.yaml /var/lib/kubelet/pki/kubelet.crt \
{_KUBECONFIGS}; do show "$file"; done"""

# No token leaves the host.
_DIGEST = "sha256sum | cut -c 1-64"
_ASKED_AS = f"""\
for file in {_KUBECONFIGS}; do
[ -r "$file" ] || continue
echo "server $file $(awk '$1 == "server:" {{ print $2 }}' "$file")"
token=$(awk '$1 == "token:" {{ print $2 }}' "$file" | tr -d '"')
[ -z "$token" ] || echo "token $file $(printf %s "$token" | {_DIGEST})"
done"""
_TOKENS = f"""\
tr -d '"' <{CONFIG_DIR}/known_tokens.csv | while IFS=, read -r token _; do
printf %s "$token" | {_DIGEST}
done"""
# Of those that run. The URL of a proxy may hold a password.
_PROXIES = """\
for name in kubelet kube-proxy; do
for pid in $(pidof "$name"); do
tr '\\0' '\\n' <"/proc/$pid/environ" |
sed -n "s/^\\(no_proxy\\)=/$name \\1 /Ip; s/^\\(https*_proxy\\)=..*/$name \\1 set/Ip"
done; done"""
_OPEN = rf"""
find {CONFIG_DIR} /etc/kubernetes /var/lib/kubelet/pki /var/lib/kubelet/kubeconfig \
/var/lib/kube-proxy /etc/kube-flannel -maxdepth 1 -type f -perm /007 \( -name '*.key' \
-o -name '*kubeconfig*' -o -name '*.csv' -o -name 'encryption*' \) 2>/dev/null; true"""

# Of the last ten minutes: who is refused something asks again and again.
_REFUSALS = r"""
[ -e /sys/fs/selinux/enforce ] || exit 0
{
if [ -r /var/log/audit/audit.log ]; then
awk -v since="$(($(date +%s) - 600))" '/^type=(USER_)?AVC / {
at = $0; sub(/.*msg=audit\(/, "", at); if (at + 0 >= since) print }' /var/log/audit/audit.log
else
journalctl --no-pager --quiet --output=cat --since=-10min _TRANSPORT=audit 2>/dev/null
fi
} | grep -E 'avc: +denied' | tail -n 200; true"""

_TOKEN_KEYS = f"""\
openssl pkey -pubout -in {CONFIG_DIR}/service-account.key || exit 127
echo accepted
cat {CONFIG_DIR}/service-account.pub"""

_PORTS = """\
cd /sys/class/net && for port in */brport; do
[ ! -e "$port" ] || echo "${port%/*} $(basename "$(readlink "$port/bridge")") \
$(cat "$port/hairpin_mode")"
done"""

_NAME = """\
echo {0} $(timeout 5 getent ahostsv4 {0} | awk 'NR == 1 {{ print $1 }}') &"""

_SERVERS = "awk '$1 == \"nameserver\" {{ print $2 }}' {}"
# Who serves the root, which says nothing of anybody. Any answer will do, a refusal too.
_QUERY = r"KU\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1"
_SILENT = f"""\
command -v bash >/dev/null || exit 127
answers() {{
timeout 2 bash -c "exec 3<>/dev/udp/$1/53 && printf '{_QUERY}' >&3 && head -c 2 <&3" 2>/dev/null |
grep -q KU
}}
for server in $(SERVERS); do
{{ answers "$server" || answers "$server" || answers "$server" || echo "$server"; }} &
done
wait"""

# The first process that is in a pod's own network.
_IN_POD = """\
in_pod() {
own=$(readlink /proc/1/ns/net)
for file in $(grep -lE 'kubepods|/docker' /proc/[0-9]*/cgroup 2>/dev/null); do
pid=${file#/proc/}; pid=${pid%/cgroup}
net=$(readlink "/proc/$pid/ns/net" 2>/dev/null) || continue
[ -z "$net" ] || [ "$net" = "$own" ] || { echo "$pid"; return; }
done
}
"""


def of_host(names: Iterable[str], resolv_conf: str) -> dict[str, str]:
    """
    Give the questions that every host is asked.

    + names: of the other hosts
    + resolv_conf: the file that kubelet gives to pods
    """

    servers = _SERVERS.format(resolv_conf)
    keys = " ".join(f"{key}:{key.replace('.', '/')}" for key in _KERNEL)
    return {
        "kernel settings": f"for key in {keys}; do "
        'echo "${key%%:*} $(cat "/proc/sys/${key#*:}" 2>/dev/null)"; done\n'
        "cd /proc/sys/net/ipv4/conf && for link in *; do "
        'echo "net.ipv4.conf.$link.forwarding $(cat "$link/forwarding")"; done',
        "connections": "cat /proc/sys/net/netfilter/nf_conntrack_count "
        "/proc/sys/net/netfilter/nf_conntrack_max 2>/dev/null; true",
        "neighbours": "ip -4 neighbour show nud permanent | "
        "awk '{ for (i = 2; i < NF; i++) if ($i == \"lladdr\") print $1, $(i + 1) }'",
        "memory": "sed 's/: */ /' /proc/meminfo",
        "names": "\n".join([*(_NAME.format(shlex.quote(n)) for n in names), "wait"]),
        "nameservers": f"echo {resolv_conf}\n{servers}",
        "silent nameservers": _SILENT.replace("SERVERS", servers),
        "certificates": _CERTIFICATES,
        "kubeconfigs": _ASKED_AS,
        "proxies": _PROXIES,
        "refusals": _REFUSALS,
        "open secrets": _OPEN,
        "ports of bridges": _PORTS,
        "pods' addresses": "ls /var/lib/cni/networks/pods 2>/dev/null; true",
        "service rules": "iptables-save -t nat 2>/dev/null | grep -m1 -E '^-A KUBE-SERVICES '; "
        "nft list chain ip kube-proxy services 2>/dev/null | head -n 1; "
        "cat /proc/net/ip_vs 2>/dev/null | sed -n 4p",
    }


def of_control_plane(port: int) -> dict[str, str]:
    """
    Give the questions that each host of the control plane is asked.

    + port: of its own apiserver
    """

    api = {name: f"{KUBECTL}{question}" for name, question in OF_API.items()}
    # Its own apiserver, whichever the kubeconfig leads to.
    api["version"] = f"{KUBECTL}get /version --server=https://127.0.0.1:{port}"
    return {**api, "token keys": _TOKEN_KEYS, "tokens": _TOKENS}


def of_objects(objects: Iterable[Mapping[str, Any]]) -> str:
    """
    Give shell that prints each object as it is, or why not, in a line.

    + objects: at least the kind and the name of each
    """

    asked = []
    for one in objects:
        path = shlex.quote(path_of_object(one))
        # No secret leaves the host.
        shown = "sed 's/^{.*/{}/' | tail -n 1" if one["kind"] == "Secret" else "tail -n 1"
        asked.append(f"get {path} 2>&1 | {shown}")
    return "\n".join([KUBECTL, *asked])


def path_of_object(one: Mapping[str, Any]) -> str:
    """
    Give the path of an object in the API; empty where it is not known.

    + one: at least its version, kind and name
    """

    meta = one["metadata"]
    return path_of(one["apiVersion"], one["kind"], meta["name"], meta.get("namespace", ""))


def of_etcd(port: int, tls: bool, version: str, control_plane: bool) -> dict[str, str]:
    """
    Give the questions that each member of etcd is asked.

    + port: for clients
    + tls: whether it has TLS
    + version: of etcd
    + control_plane: whether the member is on a host of the control plane
    """

    scheme, certificate = (
        "https" if tls else "http",
        CLIENT.name if control_plane else "etcd-server",
    )
    base = f"{scheme}://127.0.0.1:{port}"
    ask = curl(**client_files(certificate)) if tls else curl()
    found = {"etcd health": f"{ask} {base}/health"}
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) >= (3, 3):
        gateway = GATEWAYS[0] if (major, minor) >= (3, 4) else GATEWAYS[1]
        for name, path, data in (
            ("status", "maintenance/status", "{}"),
            ("alarms", "maintenance/alarm", '{"action": "GET"}'),
            ("members", "cluster/member/list", "{}"),
        ):
            found[f"etcd {name}"] = f"{ask} --data {shlex.quote(data)} {base}/{gateway}/{path}"
    return found


def api_way(endpoint: str) -> str:
    """
    Give shell that succeeds if an apiserver answers at all.

    + endpoint: host and port
    """

    return f"curl --silent --show-error --insecure --noproxy '*' --max-time 5 -o /dev/null https://{endpoint}/version"


def route_way(network: str, source: str, bridge: str) -> str:
    """
    Give shell that says which way the kernel sends what a pod sends to a network.

    + network: of other pods
    + source: the network of the host's pods
    + bridge: that they are on
    """

    return f"ip -4 route get {IPNetwork(network)[2]} from {IPNetwork(source)[-2]} iif {bridge}"


def loss_way(address: str, port: int) -> str:
    """
    Give shell that says how many packets to an address are lost. Who answers only so many pings a
    second is asked for connections, which wait a second for a packet that is lost.

    + address: of another host
    + port: that it listens on
    """

    connect = f"timeout 0.9 bash -c '</dev/tcp/{address}/{port}' 2>/dev/null"
    return f"""\
command -v ping >/dev/null && command -v bash >/dev/null || exit 127
said=$(LC_ALL=C ping -n -q -c 20 -i 0.02 -W 1 {address} | grep -o '[0-9.]*% packet loss')
case $said in 0%*|100%*) echo "$said"; exit ;; esac
late=$(for n in $(seq 25); do ({connect}; [ $? != 124 ] || echo late) & done; wait)
echo $(($(echo "$late" | grep -c late) * 4))% packet loss"""


def registry_way(url: str) -> str:
    """
    Give shell that succeeds if a registry answers at all.

    + url: its own
    """

    address = shlex.quote(f"{url.rstrip('/')}/v2/")
    return f"curl --silent --show-error --insecure --max-time 5 -o /dev/null {address}"


def logs_way(url: str) -> str:
    """
    Give shell that succeeds if a receiver takes logs: it is sent none.

    + url: its own
    """

    address = shlex.quote(f"{url.rstrip('/')}/v1/logs")
    options = "--silent --show-error --fail --insecure --max-time 5 -o /dev/null"
    return f"curl {options} -H 'Content-Type: application/json' --data '{{}}' {address}"


def way(address: str, port: int, from_pod: bool = False, closed: bool = False) -> str:
    """
    Give shell that succeeds if an address takes a connection.

    + address, port: where
    + from_pod: whether it is tried from a pod, where one runs
    + closed: whether the port may be closed, so that a refusal is an answer, too
    """

    inside = f"{_IN_POD}pid=$(in_pod)\nset -- ${{pid:+nsenter --target $pid --net}}\n"
    refused = "case $said in *refused*) exit 0 ;; esac\n" if closed else ""
    return f"""\
{inside if from_pod else "set --"}
command -v bash >/dev/null || exit 127
said=$("$@" timeout 4 bash -c '</dev/tcp/{address}/{port}' 2>&1) && exit
{refused}echo "$said" | tail -n 1
exit 1"""


def dns_way(server: str, domain: str, answer: str, from_pod: bool = False) -> str:
    """
    Give shell that succeeds if a server says where the API's service is.

    + server: its address
    + domain: of the cluster
    + answer: the address of the service
    + from_pod: whether it is tried from a pod, where one runs
    """

    query = dns_query(server, f"kubernetes.default.svc.{domain}", answer)
    if not from_pod:
        return query
    return f"{_IN_POD}pid=$(in_pod)\n${{pid:+nsenter --target $pid --net}} {query}"


def pods_by_node(
    pods: Iterable[Mapping[str, object]], policies: Iterable[Mapping[str, Any]] = ()
) -> dict[str, dict[str, bool]]:
    """
    Give the addresses of running pods on networks of their own, by node, and whether each is of
    CoreDNS. Who enforces policies may refuse or drop what goes to others in their namespaces.

    + pods, policies: as the API tells them
    """

    found: dict[str, dict[str, bool]] = {}
    kept = {
        one["metadata"]["namespace"]
        for one in policies
        if "Ingress" in (one["spec"].get("policyTypes") or ["Ingress"])
    }
    for pod in pods:
        spec, status, meta = (dict(pod.get(k) or {}) for k in ("spec", "status", "metadata"))  # type: ignore[call-overload]
        own = not spec.get("hostNetwork") and status.get("phase") == "Running"
        if own and status.get("podIP") and not meta.get("deletionTimestamp"):
            is_dns = (meta.get("labels") or {}).get("k8s-app") == "kube-dns"
            if not is_dns and meta["namespace"] in kept:
                continue
            # One that is not ready serves nobody yet, and is named otherwise.
            if is_dns and not _is_ready(status):
                continue
            found.setdefault(spec.get("nodeName", ""), {})[status["podIP"]] = is_dns
    return found


def _is_ready(status: Mapping[str, Any]) -> bool:
    states = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    return states.get("Ready") == "True"
