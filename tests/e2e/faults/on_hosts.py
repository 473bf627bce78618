"""Faults of hosts: units, static pods, images, names, certificates."""

from __future__ import annotations

import base64
import re
from datetime import datetime, timedelta, timezone

from pyinfra_kube.cluster import pki
from tests.e2e.faults.fault import CONTROL_PLANE, NODE, OTHER, Fault
from tests.e2e.paths import Site, ssh
from tests.lab import Lab

_KUBELET_CRT = "/var/lib/kubelet/pki/kubelet.crt"
_KUBELET_KEY = "/var/lib/kubelet/pki/kubelet.key"
_CLIENT = "/srv/kubernetes/kubelet-client.crt"
_DROP_IN = "/etc/systemd/system/kubelet.service.d/99-foreign.conf"
_KUBECONFIG = "/var/lib/kubelet/kubeconfig"
_CONFIGURATION = "/var/lib/kubelet/config.yaml"
_CONTAINERD = "/etc/containerd/config.toml"
_HOLDS = (
    "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 10250, Listen => 5); sleep"
)
_AGAIN = "systemctl restart kubelet"


_NAMED = "ctr -n k8s.io images ls -q >/run/images\nname=$(grep -m1 io/coredns/ /run/images)\n"


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


def _strange_name(lab: Lab, site: Site) -> None:
    ca = pki.KeyPair((site.store / "ca.crt").read_text(), (site.store / "ca.key").read_text())
    made = pki.issue(ca, "server", "system:node:stranger", names=["stranger"])
    _write(lab, _KUBELET_CRT, made.cert)
    _write(lab, _KUBELET_KEY, made.key)
    ssh(lab, NODE, _AGAIN)


def _strange_ca(lab: Lab, site: Site) -> None:
    _write(lab, "/srv/kubernetes/ca.crt", pki.make_ca("kubernetes-ca").cert)


def _strange_kubeconfig(lab: Lab) -> None:
    text = ssh(lab, NODE, f"cat {_KUBECONFIG}")
    data = base64.b64encode(pki.make_ca("kubernetes-ca").cert.encode()).decode()
    changed = re.sub(r"(certificate-authority-data: *\"?)[A-Za-z0-9+/=]+", rf"\g<1>{data}", text)
    _write(lab, _KUBECONFIG, changed)


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


def _read_only(path: str) -> tuple[str, str]:
    put_in = f"mount --rbind {path} {path}\nmount -o remount,bind,ro {path}"
    return put_in, f"mount -o remount,bind,rw {path}\numount -l {path}"


def _seems(path: str, content: str) -> tuple[str, str]:
    """What belongs to the whole machine, and only this host sees so."""
    seen = f"/run/seems-{path.rpartition('/')[2]}"
    return f"{content} >{seen}\nmount --bind {seen} {path}", f"umount {path}"


def _changed(path: str, change: str) -> tuple[str, str]:
    """A changed file of kubelet's, which is then restarted."""
    return f"{_keep(path)}sed -i '{change}' {path}\n{_AGAIN}", f"{_back(path)}{_AGAIN}"


FAULTS: dict[str, Fault] = {
    "a skewed clock": Fault(
        "host.clock",
        NODE,
        'printf \'#!/bin/sh\\nexec /usr/bin/date -d "300 seconds ago" "$@"\\n\' '
        ">/usr/local/sbin/date\nchmod +x /usr/local/sbin/date",
        "rm /usr/local/sbin/date",
    ),
    "swap that came back": Fault(
        "host.swap",
        NODE,
        *_seems("/proc/swaps", "printf 'Filename Type\\n/dev/zram0 partition 1 0 100\\n'"),
    ),
    "little memory": Fault(
        "host.memory",
        NODE,
        *_seems("/proc/meminfo", "sed 's/^MemAvailable:.*/MemAvailable: 9216 kB/' /proc/meminfo"),
    ),
    "no room for connections": Fault(
        "host.connections",
        NODE,
        *_seems(
            "/proc/sys/net/netfilter/nf_conntrack_count",
            "cat /proc/sys/net/netfilter/nf_conntrack_max",
        ),
    ),
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
    "a containerd that keeps control groups": Fault(
        "runtime.cgroups",
        NODE,
        f"{_keep(_CONTAINERD)}sed -i 's/\\(SystemdCgroup =\\) true/\\1 false/' {_CONTAINERD}\n"
        "systemctl restart containerd",
        f"{_back(_CONTAINERD)}systemctl restart containerd",
    ),
    "a containerd that cannot write": Fault("host.disk", NODE, *_read_only("/var/lib/containerd")),
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
    "a kubelet that cannot write": Fault("host.disk", NODE, *_read_only("/var/lib/kubelet")),
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
    "an etcd that hangs": Fault("etcd.answers", CONTROL_PLANE, *_frozen("etcd"), patience=60),
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
    "another image under the name": Fault(
        "image.pinned",
        NODE,
        f"{_NAMED}ctr -n k8s.io images tag $name kept.example/coredns:1\n"
        "ctr -n k8s.io images tag --force $(grep -m1 /pause: /run/images) $name",
        f"{_NAMED}ctr -n k8s.io images tag --force kept.example/coredns:1 $name\n"
        "ctr -n k8s.io images rm kept.example/coredns:1",
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
    # Nobody has this address, so nobody refuses either.
    "a nameserver that is dead": Fault(
        "host.nameservers",
        NODE,
        f"{_keep('/etc/resolv.conf')}echo nameserver 192.0.2.53 >>/etc/resolv.conf",
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
    "a program on the port of kubelet": Fault(
        "host.ports",
        NODE,
        f"printf '{_HOLDS}' >/run/hold.pl\nsystemctl stop kubelet\n"
        "systemd-run --quiet --unit=holds perl /run/hold.pl\nsleep 1\nsystemctl start kubelet",
        f"systemctl stop holds\n{_AGAIN}",
    ),
    "limits of kubelet that no disk keeps": Fault(
        "unit.configuration",
        NODE,
        *_changed(_CONFIGURATION, "$ a evictionHard: {nodefs.available: 99%}"),
        patience=40,
    ),
    "an image of a static pod that is nowhere": Fault(
        "pod.manifest", CONTROL_PLANE, *_manifest("sed -i 's/kube-scheduler:v[0-9.]*/&9/' {path}")
    ),
    # Certificates
    "a certificate that ended": Fault("cert.ends", NODE, _end_certificate, _back(_KUBELET_CRT)),
    "a kubelet with another name": Fault(
        "node.kubelet",
        CONTROL_PLANE,
        _strange_name,
        lambda lab, _: ssh(lab, NODE, f"{_back(_KUBELET_CRT)}{_back(_KUBELET_KEY)}{_AGAIN}"),
    ),
    "another CA on a node": Fault("cert.ca", NODE, _strange_ca, _back("/srv/kubernetes/ca.crt")),
    "a kubeconfig with another CA": Fault(
        "cert.ca",
        NODE,
        lambda lab, _: _strange_kubeconfig(lab),
        _back(_KUBECONFIG),
    ),
    "a certificate that signs itself": Fault(
        "cert.ca",
        CONTROL_PLANE,
        f"{_keep(_CLIENT)}openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=self "
        f"-keyout /run/self.key -out /run/self.crt 2>/dev/null\ncat /run/self.crt >{_CLIENT}",
        _back(_CLIENT),
    ),
    "another key for tokens": Fault(
        "cert.tokens",
        CONTROL_PLANE,
        f"{_keep('/srv/kubernetes/service-account.pub')}"
        "openssl genpkey -algorithm RSA 2>/dev/null | openssl pkey -pubout >/run/new.pub\n"
        "cat /run/new.pub >/srv/kubernetes/service-account.pub",
        _back("/srv/kubernetes/service-account.pub"),
    ),
}

# What takes longest to mend.
LAST: dict[str, Fault] = {
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
