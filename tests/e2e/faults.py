"""
Faults of a running cluster: how to put one in, how to mend it, and what verification must call it.

    found = named(site)
    with put_in(FAULTS["a stopped kubelet"], lab, site):
        found = named(site)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from pyinfra_kube.cluster import pki
from tests.e2e.paths import Site, ssh
from tests.lab import Lab
from tests.lab.lab import HOSTS

CONTROL_PLANE, NODE, OTHER = HOSTS
CLUSTER = "the cluster"

Do = str | Callable[[Lab, Site], object]


class Fault(NamedTuple):
    """
    + check, host: what it must be called, and where
    + put_in, mend: shell on ``on``, or a function
    + on: the host that is broken; by default the one that is named
    + options: of the run of verification
    + patience: seconds in which it must be seen
    + quick: whether it is tried by default
    """

    check: str
    host: str
    put_in: Do
    mend: Do
    on: str = ""
    options: tuple[str, ...] = ()
    patience: float = 20
    quick: bool = False


def named(site: Site, *options: str) -> list[tuple[str, str, str, str]]:
    """Each cause that verification finds, in its order: check, host, subject, state."""
    file = site.folder / "found.json"
    file.unlink(missing_ok=True)
    run = site.run("-y", "--data", f"verify_json={file}", *options, deploy="verify", timeout=120)
    found = json.loads(file.read_text())
    assert (run.code == 0) == (found["failed"] == 0), run.said[-4000:]
    return [(one["check"], one["host"], one["subject"], one["state"]) for one in found["causes"]]


def until_well(site: Site, patience: float = 150) -> None:
    """Wait until verification finds nothing."""
    deadline = time.monotonic() + patience
    while found := named(site):
        assert time.monotonic() < deadline, found
        time.sleep(2)


@contextmanager
def put_in(fault: Fault, lab: Lab, site: Site) -> Iterator[None]:
    """Put a fault in, and mend it."""
    _do(fault.put_in, fault.on or fault.host, lab, site)
    try:
        yield
    finally:
        _do(fault.mend, fault.on or fault.host, lab, site)


def see(fault: Fault, lab: Lab, site: Site) -> None:
    """Put a fault in, and see it called what it is and nothing beside it."""
    with put_in(fault, lab, site):
        deadline = time.monotonic() + fault.patience
        while True:
            found = named(site, *fault.options)
            if [(check, host) for check, host, *_ in found] == [(fault.check, fault.host)]:
                return
            assert time.monotonic() < deadline, found
            time.sleep(1)


def _do(what: Do, host: str, lab: Lab, site: Site) -> None:
    if not isinstance(what, str):
        what(lab, site)
        return
    done = lab.exec(host, f"set -e\n{what}")
    assert done.returncode == 0, (host, what, done.stdout, done.stderr)


# -- Functions -----------------------------------------------------------------------------------

_KUBELET_CRT = "/var/lib/kubelet/pki/kubelet.crt"


def _keep(path: str) -> str:
    return f"cp --archive {path} /run/kept-$(basename {path})\n"


def _back(path: str) -> str:
    return f"cp --archive /run/kept-$(basename {path}) {path}\n"


def _write(lab: Lab, path: str, text: str) -> None:
    """In place, as with an editor; the date is kept."""
    command = f"{_keep(path)}cat >{path}; touch -r /run/kept-$(basename {path}) {path}"
    ssh(lab, NODE, command, text.encode())


def _end_certificate(lab: Lab, site: Site) -> None:
    ca = pki.KeyPair((site.store / "ca.crt").read_text(), (site.store / "ca.key").read_text())
    before = datetime.now(timezone.utc) - timedelta(minutes=30)
    # It lasts a day, and began more than a day ago.
    made = before - timedelta(days=1)
    end = pki.issue(ca, "server", f"system:node:{NODE}", days=1, now=made)
    _write(lab, _KUBELET_CRT, end.cert)


def _strange_ca(lab: Lab, site: Site) -> None:
    _write(lab, "/srv/kubernetes/ca.crt", pki.make_ca("kubernetes-ca").cert)


def _alarm(action: str) -> str:
    files = "--cacert /srv/kubernetes/etcd-ca.crt --cert /srv/kubernetes/etcd-client.crt"
    ask = f"curl -sS --fail {files} --key /srv/kubernetes/etcd-client.key"
    url = "https://127.0.0.1:2379/v3/maintenance"
    member = (
        f"id=$({ask} -d '{{}}' {url}/status | sed 's/.*\"member_id\":\"\\([0-9]*\\)\".*/\\1/')\n"
    )
    data = (
        f'"{{\\"action\\": \\"{action}\\", \\"memberID\\": \\"$id\\", \\"alarm\\": \\"NOSPACE\\"}}"'
    )
    return f"{member}{ask} -d {data} {url}/alarm"


def _manifest(change: str, name: str = "kube-scheduler") -> tuple[str, str]:
    path = f"/etc/kubernetes/manifests/{name}.yaml"
    return f"{_keep(path)}{change.format(path=path)}", _back(path)


def _frozen(program: str) -> tuple[str, str]:
    return f"kill -STOP $(pidof {program})", f"kill -CONT $(pidof {program})"


def _changed(path: str, change: str) -> tuple[str, str]:
    """A changed file of kubelet's, which is then restarted."""
    return f"{_keep(path)}sed -i '{change}' {path}\n{_AGAIN}", f"{_back(path)}{_AGAIN}"


def _refused(manifest: dict[str, Any]) -> tuple[str, str]:
    """What refuses the pods of CoreDNS, which are then deleted."""
    put_in, mend = _applied(manifest)
    return f"{put_in}\n{_NEW_PODS}", f"{mend}\nkubectl -n kube-system rollout restart {_COREDNS}"


def _firewall(rule: str) -> tuple[str, str]:
    return f"iptables -I {rule}", f"iptables -D {rule}"


def _applied(manifest: dict[str, Any]) -> tuple[str, str]:
    given = f"-f - <<'END'\n{json.dumps(manifest)}\nEND"
    return f"kubectl create {given}", f"kubectl delete {given}"


_POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": "kube-system"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}
_STRANGER = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "stranger"}}
_NO_IMAGE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "lacking", "namespace": "default"},
    "spec": {
        "containers": [
            {"name": "x", "image": "registry.k8s.io/none:1", "imagePullPolicy": "Never"}
        ],
        "nodeSelector": {"kubernetes.io/hostname": NODE},
    },
}
_QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "none", "namespace": "kube-system"},
    "spec": {"hard": {"pods": "0"}},
}
_NOBODY = {"namespace": "default", "name": "nobody"}
_WEBHOOK = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "guard"},
    "webhooks": [
        {
            "name": "guard.example.com",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 2,
            "clientConfig": {"service": _NOBODY},
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }
            ],
        }
    ],
}
_NO_SERVICE = {
    "apiVersion": "apiregistration.k8s.io/v1",
    "kind": "APIService",
    "metadata": {"name": "v1.nobody.example.com"},
    "spec": {
        "group": "nobody.example.com",
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 1,
        "insecureSkipTLSVerify": True,
        "service": _NOBODY,
    },
}
_COREDNS = "deployment/coredns"
_NEW_PODS = "kubectl -n kube-system delete pods --selector=k8s-app=kube-dns --wait=false"
_UPLINK = "link=$(ip -4 route show default | awk '{ print $5 }')\n"
_ROUTE = "ip -4 route show | grep -m1 -E '^10\\.10\\.[0-9]+\\.0/24 via '"
_DROP_IN = "/etc/systemd/system/kubelet.service.d/99-foreign.conf"
_TABLE = "nft add table inet fault\nnft add chain inet fault f"
_MASQUERADE = "iptables-save -t nat | sed -n 's/^-A \\(POSTROUTING .*kube-masquerade.*\\)/\\1/p'"
_BRIDGE = "old=$(ip -4 -o address show dev cbr0 | awk '{ print $4 }')\necho $old >/run/old\n"
_KUBECONFIG = "/var/lib/kubelet/kubeconfig"
_CONFIGURATION = "/var/lib/kubelet/config.yaml"
_AGAIN = "systemctl restart kubelet"

FAULTS: dict[str, Fault] = {
    # Units
    "a stopped kubelet": Fault(
        "unit.runs", NODE, "systemctl stop kubelet", "systemctl start kubelet", quick=True
    ),
    "a stopped kube-proxy": Fault(
        "unit.runs", NODE, "systemctl stop kube-proxy", "systemctl start kube-proxy"
    ),
    "a stopped containerd": Fault(
        "runtime.runs", NODE, "systemctl stop containerd", "systemctl start containerd kubelet"
    ),
    "a disabled unit": Fault(
        "runtime.enabled", NODE, "systemctl disable kubelet", "systemctl enable kubelet"
    ),
    "a foreign drop-in": Fault(
        "unit.files",
        NODE,
        f"mkdir -p {_DROP_IN.rpartition('/')[0]}\n"
        "line=$(sed -n '/^ExecStart=/,/[^\\\\]$/p' /etc/systemd/system/kubelet.service)\n"
        f"printf '[Service]\\nExecStart=\\n%s --max-pods=9\\n' \"$line\" >{_DROP_IN}\n"
        f"systemctl daemon-reload\n{_AGAIN}",
        f"rm {_DROP_IN}\nsystemctl daemon-reload\n{_AGAIN}",
        patience=60,
    ),
    "a file that is newer than its unit": Fault(
        "unit.fresh", NODE, f"sleep 2\ntouch {_KUBECONFIG}", _AGAIN
    ),
    "a kubelet that hangs": Fault("health", NODE, *_frozen("kubelet")),
    "a kube-proxy that hangs": Fault("health", NODE, *_frozen("kube-proxy")),
    "a proxy for kubelet": Fault(
        "unit.proxy",
        NODE,
        f"mkdir -p {_DROP_IN.rpartition('/')[0]}\n"
        f"printf '[Service]\\nEnvironment=HTTPS_PROXY=http://192.0.2.1:3128\\n' >{_DROP_IN}\n"
        f"systemctl daemon-reload\n{_AGAIN}",
        f"rm {_DROP_IN}\nsystemctl daemon-reload\n{_AGAIN}",
        patience=60,
    ),
    "another DNS for pods": Fault(
        "unit.configuration", NODE, *_changed(_CONFIGURATION, "s/10.254.0.10/10.254.0.53/")
    ),
    "a kubelet that cannot read its configuration": Fault(
        "unit.configuration", NODE, *_changed(_CONFIGURATION, "s/^clusterDNS/cluserDNS/")
    ),
    "a token that nobody gave": Fault(
        "cert.kubeconfig", NODE, *_changed(_KUBECONFIG, "s/token: .*/token: x/"), patience=40
    ),
    "a kubeconfig that leads elsewhere": Fault(
        "cert.kubeconfig", NODE, *_changed(_KUBECONFIG, "s/:6443/:6444/"), patience=40
    ),
    "a key that others can read": Fault(
        "cert.open",
        NODE,
        "chmod 644 /var/lib/kubelet/pki/kubelet.key",
        "chmod 600 /var/lib/kubelet/pki/kubelet.key",
    ),
    "a kubelet that cannot write": Fault(
        "host.disk",
        NODE,
        "mount --rbind /var/lib/kubelet /var/lib/kubelet\n"
        "mount -o remount,bind,ro /var/lib/kubelet",
        "mount -o remount,bind,rw /var/lib/kubelet\numount -l /var/lib/kubelet",
    ),
    # Static pods
    "a copy of a manifest": Fault(
        "pod.manifest",
        CONTROL_PLANE,
        "sed 's/--v=2/--v=5/' /etc/kubernetes/manifests/kube-scheduler.yaml "
        ">/etc/kubernetes/manifests/kube-scheduler.yaml.bak",
        "rm /etc/kubernetes/manifests/kube-scheduler.yaml.bak",
    ),
    "a manifest that is no YAML": Fault(
        "pod.manifest", CONTROL_PLANE, *_manifest("sed -i 's/^spec:/spec/' {path}")
    ),
    "a changed manifest": Fault(
        "pod.manifest", CONTROL_PLANE, *_manifest("echo '# mine' >>{path}"), quick=True
    ),
    "a manifest that was moved": Fault("pod.manifest", CONTROL_PLANE, *_manifest("rm {path}")),
    "an image that is not there": Fault(
        "pod.manifest",
        CONTROL_PLANE,
        *_manifest("sed -i 's/kube-scheduler:v/kube-scheduler:x/' {path}"),
    ),
    "an apiserver with another flag": Fault(
        "pod.manifest",
        CONTROL_PLANE,
        *_manifest(
            "sed -i 's/--event-ttl=[^ ]*//; /- --secure-port/a\\    - --event-ttl=2h0m0s' {path}",
            "kube-apiserver",
        ),
        patience=60,
    ),
    "a manifest of etcd that is gone": Fault(
        "pod.manifest", CONTROL_PLANE, *_manifest("rm {path}", "etcd"), patience=60
    ),
    "an etcd that hangs": Fault("etcd.health", CONTROL_PLANE, *_frozen("etcd"), patience=60),
    "a scheduler that hangs": Fault("health", CONTROL_PLANE, *_frozen("kube-scheduler")),
    "a controller manager that hangs": Fault(
        "health", CONTROL_PLANE, *_frozen("kube-controller-manager")
    ),
    "an apiserver that hangs": Fault(
        "health", CONTROL_PLANE, *_frozen("kube-apiserver"), patience=40
    ),
    "an alarm of etcd": Fault(
        "etcd.alarm", CONTROL_PLANE, _alarm("ACTIVATE"), _alarm("DEACTIVATE")
    ),
    # Images and CNI
    "no pause image": Fault(
        "image.there",
        NODE,
        "name=$(ctr -n k8s.io images ls -q | grep -m1 '/pause:')\n"
        "ctr -n k8s.io images export /run/pause.tar $name\nctr -n k8s.io images rm $name",
        "ctr -n k8s.io images import /run/pause.tar",
    ),
    "a plugin that is missing": Fault(
        "cni.plugins",
        NODE,
        "mv /opt/cni/bin/bridge /run/bridge",
        "cp --archive /run/bridge /opt/cni/bin/bridge",
    ),
    "a network that was left": Fault(
        "cni.network",
        NODE,
        "cp /etc/cni/net.d/10-pods.conflist /etc/cni/net.d/05-left.conflist",
        "rm /etc/cni/net.d/05-left.conflist",
    ),
    "no addresses for pods": Fault(
        "cni.addresses",
        NODE,
        "cd /var/lib/cni/networks/pods\nbase=$(ip -4 -o address show dev cbr0 | "
        "awk '{ sub(/1\\/.*/, \"\", $4); print $4 }')\n"
        "for n in $(seq 2 254); do [ -e $base$n ] || echo left >$base$n; done",
        "grep -l left /var/lib/cni/networks/pods/10.* | xargs rm",
    ),
    # The pod network
    "small packets between hosts": Fault(
        "net.mtu",
        NODE,
        f"{_UPLINK}ip link set $link mtu 1300",
        f"{_UPLINK}ip link set $link mtu 1500",
    ),
    "the address of another host": Fault(
        "host.address",
        OTHER,
        lambda lab, _: lab.exec(OTHER, f"ip address add {lab.hosts[NODE].ip}/32 dev lo"),
        lambda lab, _: lab.exec(OTHER, f"ip address delete {lab.hosts[NODE].ip}/32 dev lo"),
    ),
    "a bridge in another node's network": Fault(
        "net.twice",
        OTHER,
        f"{_ROUTE} >/run/route\nbase=$(cut -d . -f 1-3 /run/route)\n"
        "ip link add clash type bridge\nip address add $base.99/25 dev clash\n"
        "ip link set clash up",
        "ip link delete clash",
    ),
    "a bridge that does not forward": Fault(
        "host.kernel",
        NODE,
        "sysctl -qw net.ipv4.conf.cbr0.forwarding=0",
        "sysctl -qw net.ipv4.conf.cbr0.forwarding=1",
    ),
    "pods that are routed elsewhere": Fault(
        "net.route",
        NODE,
        "ip route add unreachable default table 99\nip rule add iif cbr0 lookup 99",
        "ip rule delete iif cbr0 lookup 99\nip route flush table 99",
    ),
    "kubelet's port is closed": Fault(
        "net.firewall",
        NODE,
        *_firewall("INPUT -p tcp --dport 10250 ! -i lo -j DROP"),
        patience=40,
    ),
    "the API's port is closed": Fault(
        "net.firewall",
        CONTROL_PLANE,
        *_firewall("INPUT -p tcp --dport 6443 ! -i lo -j DROP"),
        patience=60,
    ),
    "queries of pods are dropped": Fault(
        "net.firewall",
        NODE,
        f"{_TABLE} '{{ type filter hook forward priority 0; }}'\n"
        "nft add rule inet fault f udp dport 53 drop",
        "nft delete table inet fault",
    ),
    "legacy tables that drop": Fault(
        "net.firewall",
        NODE,
        "iptables-legacy -P FORWARD DROP",
        "iptables-legacy -P FORWARD ACCEPT",
    ),
    "a bridge with another MTU": Fault(
        "net.mtu", NODE, "ip link set cbr0 mtu 1300", "ip link set cbr0 mtu 1460", quick=True
    ),
    "a bridge with another address": Fault(
        "net.bridge",
        NODE,
        f"{_BRIDGE}ip address add 10.10.99.1/24 dev cbr0\nip address delete $old dev cbr0",
        "ip address add $(cat /run/old) dev cbr0\nip address delete 10.10.99.1/24 dev cbr0",
    ),
    "a bridge that is down": Fault(
        "net.bridge", NODE, "ip link set cbr0 down", "ip link set cbr0 up"
    ),
    "two bridges with one network": Fault(
        "net.twice",
        NODE,
        f"{_BRIDGE}ip link add br9 type bridge\nip address add ${{old%.*}}.9/24 dev br9",
        "ip link delete br9",
    ),
    "a route that is missing": Fault(
        "net.route",
        NODE,
        f"{_ROUTE} >/run/route\nip route delete $(cut -d ' ' -f 1 /run/route)",
        "ip route add $(cat /run/route)",
        quick=True,
    ),
    "a route to somewhere else": Fault(
        "net.route",
        NODE,
        f"{_ROUTE} >/run/route\nset -- $(cat /run/route)\n"
        "ip route change $1 via $(ip route show default | awk '{ print $3 }')",
        "set -- $(cat /run/route)\nip route replace $(cat /run/route)",
    ),
    "no forwarding": Fault(
        "host.kernel", NODE, "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv4.ip_forward=1"
    ),
    "bridged packets that iptables does not see": Fault(
        "host.kernel",
        NODE,
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
    ),
    "masquerade twice": Fault(
        "net.masquerade",
        NODE,
        *(
            f"iptables -t nat {do} POSTROUTING -s 10.10.0.0/16 ! -d 10.0.0.0/8 -j MASQUERADE"
            for do in ("-A", "-D")
        ),
    ),
    "masquerade never": Fault(
        "net.masquerade",
        NODE,
        f"{_MASQUERADE} >/run/rule\neval iptables -t nat -D $(cat /run/rule)",
        "eval iptables -t nat -A $(cat /run/rule)",
    ),
    "masquerade between pods": Fault(
        "net.masquerade",
        NODE,
        *(f"iptables -t nat {do} POSTROUTING -s 10.10.0.0/16 -j MASQUERADE" for do in ("-A", "-D")),
    ),
    "a rule of iptables that drops pods' packets": Fault(
        "net.firewall", NODE, *_firewall("FORWARD -s 10.10.0.0/16 -j DROP"), quick=True
    ),
    "a rule that rejects what comes to pods": Fault(
        "net.firewall", NODE, *_firewall("FORWARD -d 10.10.0.0/16 -j REJECT")
    ),
    "a table of nft that drops all": Fault(
        "net.firewall",
        NODE,
        f"{_TABLE} '{{ type filter hook forward priority -5; policy drop; }}'",
        "nft delete table inet fault",
    ),
    "kube-proxy's rules are gone": Fault(
        "net.proxy",
        NODE,
        "nft delete table ip kube-proxy 2>/dev/null || iptables -t nat -F KUBE-SERVICES",
        "systemctl restart kube-proxy",
    ),
    "a service that leads nowhere": Fault(
        "net.route",
        NODE,
        "ip route add blackhole 10.254.0.1/32",
        "ip route delete blackhole 10.254.0.1/32",
    ),
    "no way to the API": Fault(
        "api.reaches", NODE, *_firewall("OUTPUT -p tcp --dport 6443 -j DROP"), patience=40
    ),
    "no way between two hosts": Fault(
        "host.reaches",
        NODE,
        lambda lab, _: lab.exec(NODE, f"ip route add blackhole {lab.hosts[OTHER].ip}/32"),
        lambda lab, _: lab.exec(NODE, f"ip route delete blackhole {lab.hosts[OTHER].ip}/32"),
    ),
    # Names
    "a wrong name": Fault(
        "host.names",
        NODE,
        f"{_keep('/etc/hosts')}"
        f"sed 's/^[0-9.]*\\([[:space:]]{OTHER}\\)/192.0.2.9\\1/' /run/kept-hosts >/etc/hosts",
        "cat /run/kept-hosts >/etc/hosts",
    ),
    "a loopback nameserver": Fault(
        "host.nameservers",
        NODE,
        f"{_keep('/etc/resolv.conf')}echo nameserver 127.0.0.53 >/etc/resolv.conf",
        "cat /run/kept-resolv.conf >/etc/resolv.conf",
    ),
    "the cluster's DNS as a nameserver": Fault(
        "host.nameservers",
        NODE,
        f"{_keep('/etc/resolv.conf')}echo nameserver 10.254.0.10 >/etc/resolv.conf",
        "cat /run/kept-resolv.conf >/etc/resolv.conf",
    ),
    "no nameserver": Fault(
        "host.nameservers",
        NODE,
        f"{_keep('/etc/resolv.conf')}: >/etc/resolv.conf",
        "cat /run/kept-resolv.conf >/etc/resolv.conf",
    ),
    # Certificates
    "a certificate that ended": Fault("cert.ends", NODE, _end_certificate, _back(_KUBELET_CRT)),
    "another CA on a node": Fault("cert.ca", NODE, _strange_ca, _back("/srv/kubernetes/ca.crt")),
    "a kubeconfig with another CA": Fault(
        "cert.ca",
        NODE,
        lambda lab, _: _strange_kubeconfig(lab),
        _back(_KUBECONFIG),
    ),
    "another key for tokens": Fault(
        "cert.tokens",
        CONTROL_PLANE,
        f"{_keep('/srv/kubernetes/service-account.pub')}"
        "openssl genpkey -algorithm RSA 2>/dev/null | openssl pkey -pubout >/run/new.pub\n"
        "cat /run/new.pub >/srv/kubernetes/service-account.pub",
        _back("/srv/kubernetes/service-account.pub"),
    ),
    # What the API tells
    "a cordoned node": Fault(
        "node.open", CLUSTER, f"kubectl cordon {NODE}", f"kubectl uncordon {NODE}", CONTROL_PLANE
    ),
    "a node that nobody planned": Fault(
        "node.registered", CLUSTER, *_applied(_STRANGER), on=CONTROL_PLANE
    ),
    "DNS gone": Fault(
        "dns.objects",
        CLUSTER,
        "kubectl -n kube-system scale deployment coredns --replicas=0",
        "kubectl -n kube-system scale deployment coredns --replicas=2",
        CONTROL_PLANE,
        patience=40,
        quick=True,
    ),
    "pods that a quota refuses": Fault(
        "pods.made", CLUSTER, *_refused(_QUOTA), on=CONTROL_PLANE, patience=40
    ),
    "pods that a dead webhook refuses": Fault(
        "pods.made", CLUSTER, *_refused(_WEBHOOK), on=CONTROL_PLANE, patience=40
    ),
    "a taint on every node": Fault(
        "node.open",
        CLUSTER,
        "kubectl taint nodes --all upkeep=yes:NoExecute",
        "kubectl taint nodes --all upkeep-",
        CONTROL_PLANE,
        patience=40,
    ),
    "CoreDNS without its rights": Fault(
        "dns.objects",
        CLUSTER,
        "kubectl get clusterrolebinding system:coredns --output=yaml |"
        "sed '/resourceVersion/d; /uid/d' >/run/binding.yaml\n"
        f"kubectl delete clusterrolebinding system:coredns\n{_NEW_PODS}",
        f"kubectl create -f /run/binding.yaml\n{_NEW_PODS}",
        CONTROL_PLANE,
        patience=40,
    ),
    "CoreDNS with a wrong Corefile": Fault(
        "dns.objects",
        CLUSTER,
        "kubectl -n kube-system get configmap coredns --output=yaml |"
        "sed '/resourceVersion/d; /uid/d' >/run/corefile.yaml\n"
        f"sed 's/  loop/  lop/' /run/corefile.yaml | kubectl replace -f -\n{_NEW_PODS}",
        f"kubectl replace -f /run/corefile.yaml\n{_NEW_PODS}",
        CONTROL_PLANE,
        patience=40,
    ),
    "a service of DNS that selects nothing": Fault(
        "dns.objects",
        CLUSTER,
        *(
            f"kubectl -n kube-system patch service kube-dns --patch "
            f'\'{{"spec": {{"selector": {{"k8s-app": "{name}"}}}}}}\''
            for name in ("coredns", "kube-dns")
        ),
        on=CONTROL_PLANE,
    ),
    "a part of the API that nobody serves": Fault(
        "api.services", CLUSTER, *_applied(_NO_SERVICE), on=CONTROL_PLANE
    ),
    "a node with another pod CIDR": Fault(
        "node.cidr",
        CLUSTER,
        f"kubectl get node {NODE} --output=json >/run/node.json\n"
        f"kubectl delete node {NODE}\n"
        "sed -E 's/10\\.10\\.[0-9]+\\.0/10.10.99.0/' /run/node.json | kubectl create -f -",
        f"kubectl delete node {NODE}\nkubectl create -f /run/node.json",
        CONTROL_PLANE,
    ),
    "a policy that keeps clients from DNS": Fault(
        "dns.policy", CLUSTER, *_applied(_POLICY), on=CONTROL_PLANE
    ),
    "a pod without its image": Fault(
        "pods.ready", CLUSTER, *_applied(_NO_IMAGE), on=CONTROL_PLANE, patience=40
    ),
    "a registry that is away": Fault(
        "registry",
        CONTROL_PLANE,
        "true",
        "true",
        options=("--data", 'registry_mirrors={"registry.k8s.io": "https://127.0.0.1:1"}'),
    ),
    # Hosts; what takes longest to mend is last
    "a cut cable": Fault(
        "host.answers",
        NODE,
        lambda lab, _: lab.cut(NODE),
        lambda lab, _: lab.mend(NODE),
        patience=60,
    ),
    "a host that is off": Fault(
        "host.answers",
        OTHER,
        lambda lab, _: lab.power_off(OTHER),
        lambda lab, _: lab.start(OTHER),
        patience=60,
    ),
    "a full disk": Fault(
        "host.disk", NODE, lambda lab, _: lab.fill_disk(NODE), lambda lab, _: lab.free_disk(NODE)
    ),
}


def _strange_kubeconfig(lab: Lab) -> None:
    import base64
    import re

    text = ssh(lab, NODE, f"cat {_KUBECONFIG}")
    data = base64.b64encode(pki.make_ca("kubernetes-ca").cert.encode()).decode()
    changed = re.sub(r"(certificate-authority-data: *\"?)[A-Za-z0-9+/=]+", rf"\g<1>{data}", text)
    _write(lab, _KUBECONFIG, changed)
