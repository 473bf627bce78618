"""
The CIS Kubernetes Benchmark, of which each item about files, flags or fields is held, not held or
not applicable: docs/cis.md, made by `make settings`, and looked at on a built host in tests/e2e.

The numbers are the benchmark's, the words are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pyinfra_kube.cluster.components.common import CIPHERS
from tests.settings import table

PAGE = Path(__file__).parents[1] / "docs/cis.md"
BENCHMARK = "1.12"

ROOT = "root:root"
MANIFESTS = "/etc/kubernetes/manifests"
KEYS = "/srv/kubernetes"


class Files(NamedTuple):
    """
    Files of a host: none has more than a mode's bits, or another owner.

    + pattern: their paths, as a shell expands them
    + mode: octal digits
    + owner: user and group
    """

    pattern: str
    mode: str = "777"
    owner: str = ""

    def __str__(self) -> str:
        bounds = [f"{self.mode} at most"] if self.mode != "777" else []
        return f"`{self.pattern}`: {', '.join([*bounds, *filter(None, [self.owner])])}"


class Setting(NamedTuple):
    """
    A flag of a component, or a field of its configuration file.

    + component: its name
    + name: of the flag, or of the field with dots between
    + must: what holds of its value; ``has`` and ``lacks`` are of a list, ``within`` of all of one
    + value: to compare with
    + default: the value that it has where it is not set
    """

    component: str
    name: str
    must: Literal["be set", "not be set", "be", "not be", "has", "lacks", "within", "at least"]
    value: str = ""
    default: str | None = None

    def __str__(self) -> str:
        name = f"`{self.name}` of {self.component}"
        words = {"be set": "set", "not be set": "not set", "be": "=", "not be": "is not"}
        said = f"{name} {words.get(self.must, self.must)}"
        if self.must == "within":
            return f"{name} has no other"
        value = f"{said} `{self.value}`" if self.value else said
        return f"{value}, by default" if self.default is not None else value


class Says(NamedTuple):
    """
    A file that has a line.

    + path: of the file
    + pattern: what a line of it matches
    """

    path: str
    pattern: str

    def __str__(self) -> str:
        return f"`{self.path}`: `{self.pattern}`"


Check = Files | Setting | Says
Verdict = Literal["held", "not held", "not applicable"]


class Item(NamedTuple):
    """
    One of the benchmark.

    + number: the benchmark's
    + what: it asks for
    + checks: that all pass where it is held, and of which one fails where it is not
    + verdict: whether it is held
    + reason: why not
    """

    number: str
    what: str
    checks: tuple[Check, ...] = ()
    verdict: Verdict = "held"
    reason: str = ""


def _set(component: str, *names: str) -> tuple[Check, ...]:
    return tuple(Setting(component, name, "be set") for name in names)


def _files(number: str, what: str, pattern: str, mode: str = "600") -> tuple[Item, Item]:
    """Two items in a row: the mode of a file and its owner."""
    head, _, last = number.rpartition(".")
    return (
        Item(number, f"{what}: mode {mode}", (Files(pattern, mode),)),
        Item(f"{head}.{int(last) + 1}", f"{what}: owner {ROOT}", (Files(pattern, owner=ROOT),)),
    )


API, MANAGER, SCHEDULER = "kube-apiserver", "kube-controller-manager", "kube-scheduler"

ITEMS: tuple[Item, ...] = (
    *_files("1.1.1", "manifest of the apiserver", f"{MANIFESTS}/kube-apiserver.yaml"),
    *_files("1.1.3", "manifest of the controller manager", f"{MANIFESTS}/{MANAGER}.yaml"),
    *_files("1.1.5", "manifest of the scheduler", f"{MANIFESTS}/kube-scheduler.yaml"),
    *_files("1.1.7", "manifest of etcd", f"{MANIFESTS}/etcd.yaml"),
    *_files("1.1.9", "CNI's networks", "/etc/cni/net.d/*"),
    Item("1.1.11", "etcd's data: mode 700", (Files("/var/lib/etcd", "700"),)),
    Item(
        "1.1.12",
        "etcd's data: owner etcd:etcd",
        (Files("/var/lib/etcd", owner="etcd:etcd"),),
        "not held",
        "etcd is a static pod and runs as root, as its image does; hosts have no user etcd",
    ),
    *_files("1.1.13", "the administrator's credential", f"{KEYS}/admin.kubeconfig"),
    *_files("1.1.15", "the scheduler's credential", f"{KEYS}/kube-scheduler.kubeconfig"),
    *_files("1.1.17", "the controller manager's credential", f"{KEYS}/{MANAGER}.kubeconfig"),
    Item("1.1.19", f"keys and certificates: owner {ROOT}", (Files(f"{KEYS}/*", owner=ROOT),)),
    Item("1.1.20", "certificates: mode 644", (Files(f"{KEYS}/*.crt", "644"),)),
    Item("1.1.21", "keys: mode 600", (Files(f"{KEYS}/*.key", "600"),)),
    Item(
        "1.2.1",
        "nobody without a credential is answered",
        (Setting(API, "anonymous-auth", "be", "false"),),
        "not held",
        "probes and load balancers ask for health; an AuthenticationConfiguration lets anybody ask "
        "for /healthz, /livez and /readyz, and nothing else",
    ),
    Item(
        "1.2.2",
        "no file of tokens",
        (Setting(API, "token-auth-file", "not be set"),),
        "not held",
        'tokens are what clients show by default; `credential_kind = "certificate"` holds it',
    ),
    Item(
        "1.2.3",
        "services take no external addresses of their own choice",
        (Setting(API, "enable-admission-plugins", "has", "DenyServiceExternalIPs"),),
        "not held",
        "where no cloud gives addresses they are how a service is reached; "
        '`admission_control = ["NodeRestriction", "DenyServiceExternalIPs"]` holds it',
    ),
    Item(
        "1.2.4",
        "a certificate to show to kubelets",
        _set(API, "kubelet-client-certificate", "kubelet-client-key"),
    ),
    Item("1.2.5", "kubelets' certificates are checked", _set(API, "kubelet-certificate-authority")),
    Item(
        "1.2.6",
        "not everything is allowed",
        (Setting(API, "authorization-mode", "lacks", "AlwaysAllow", "AlwaysAllow"),),
    ),
    Item(
        "1.2.7",
        "a node may change only itself",
        (Setting(API, "authorization-mode", "has", "Node"),),
    ),
    Item("1.2.8", "roles", (Setting(API, "authorization-mode", "has", "RBAC"),)),
    Item(
        "1.2.9",
        "a limit of events",
        (Setting(API, "enable-admission-plugins", "has", "EventRateLimit"),),
        "not held",
        "it needs limits that fit the cluster; API Priority and Fairness shares the apiserver out",
    ),
    Item(
        "1.2.10",
        "AlwaysAdmit is off",
        (Setting(API, "enable-admission-plugins", "lacks", "AlwaysAdmit"),),
    ),
    Item(
        "1.2.11",
        "AlwaysPullImages is on",
        (Setting(API, "enable-admission-plugins", "has", "AlwaysPullImages"),),
        "not held",
        "pods would not start while a registry is away, and images that are loaded never; "
        "`admission_control` can add it",
    ),
    Item(
        "1.2.12",
        "ServiceAccount is on",
        (Setting(API, "disable-admission-plugins", "lacks", "ServiceAccount", ""),),
    ),
    Item(
        "1.2.13",
        "NamespaceLifecycle is on",
        (Setting(API, "disable-admission-plugins", "lacks", "NamespaceLifecycle", ""),),
    ),
    Item(
        "1.2.14",
        "NodeRestriction is on",
        (Setting(API, "enable-admission-plugins", "has", "NodeRestriction"),),
    ),
    Item("1.2.15", "no profiling", (Setting(API, "profiling", "be", "false"),)),
    Item("1.2.16", "an audit log", _set(API, "audit-log-path")),
    Item("1.2.17", "… for 30 days", (Setting(API, "audit-log-maxage", "at least", "30"),)),
    Item("1.2.18", "… in 10 files", (Setting(API, "audit-log-maxbackup", "at least", "10"),)),
    Item("1.2.19", "… of 100 MB", (Setting(API, "audit-log-maxsize", "at least", "100"),)),
    Item("1.2.20", "requests end", (Setting(API, "request-timeout", "be", "1m0s", "1m0s"),)),
    Item(
        "1.2.21",
        "tokens of removed service accounts are refused",
        (Setting(API, "service-account-lookup", "be", "true", "true"),),
    ),
    Item("1.2.22", "a key for service accounts", _set(API, "service-account-key-file")),
    Item("1.2.23", "a certificate to show to etcd", _set(API, "etcd-certfile", "etcd-keyfile")),
    Item("1.2.24", "TLS", _set(API, "tls-cert-file", "tls-private-key-file")),
    Item("1.2.25", "clients' certificates", _set(API, "client-ca-file")),
    Item("1.2.26", "etcd's certificate is checked", _set(API, "etcd-cafile")),
    Item("1.2.27", "encryption at rest", _set(API, "encryption-provider-config")),
    Item(
        "1.2.28",
        "… by aescbc, kms or secretbox",
        (Says(f"{KEYS}/encryption.yaml", r"^\s+- secretbox:"),),
    ),
    Item(
        "1.2.29",
        "strong ciphers",
        (Setting(API, "tls-cipher-suites", "within", ",".join(CIPHERS)),),
    ),
    Item(
        "1.2.30",
        "tokens of pods end when they say",
        (Setting(API, "service-account-extend-token-expiration", "be", "false"),),
    ),
    Item(
        "1.3.1",
        "pods that ended are removed at some number",
        (Setting(MANAGER, "terminated-pod-gc-threshold", "at least", "1", "12500"),),
    ),
    Item("1.3.2", "no profiling", (Setting(MANAGER, "profiling", "be", "false"),)),
    Item(
        "1.3.3",
        "each controller has an account of its own",
        (Setting(MANAGER, "use-service-account-credentials", "be", "true"),),
    ),
    Item("1.3.4", "a key for service accounts", _set(MANAGER, "service-account-private-key-file")),
    Item("1.3.5", "pods know the CA", _set(MANAGER, "root-ca-file")),
    Item(
        "1.3.6",
        "kubelets may rotate their serving certificates",
        (Setting(MANAGER, "feature-gates", "lacks", "RotateKubeletServerCertificate=false", ""),),
    ),
    Item("1.3.7", "on the loopback alone", (Setting(MANAGER, "bind-address", "be", "127.0.0.1"),)),
    Item("1.4.1", "no profiling", (Setting(SCHEDULER, "enableProfiling", "be", "false"),)),
    Item(
        "1.4.2",
        "on the loopback alone",
        (Setting(SCHEDULER, "bind-address", "be", "127.0.0.1"),),
    ),
    Item("2.1", "TLS for clients", _set("etcd", "cert-file", "key-file")),
    Item("2.2", "clients show certificates", (Setting("etcd", "client-cert-auth", "be", "true"),)),
    Item(
        "2.3",
        "no certificates of its own making",
        (Setting("etcd", "auto-tls", "be", "false", "false"),),
    ),
    Item("2.4", "TLS for members", _set("etcd", "peer-cert-file", "peer-key-file")),
    Item(
        "2.5",
        "members show certificates",
        (Setting("etcd", "peer-client-cert-auth", "be", "true"),),
    ),
    Item(
        "2.6",
        "no certificates of its own making for members",
        (Setting("etcd", "peer-auto-tls", "be", "false", "false"),),
    ),
    Item(
        "2.7",
        "a CA of its own",
        (
            Setting("etcd", "trusted-ca-file", "be", f"{KEYS}/etcd-ca.crt"),
            Setting(API, "client-ca-file", "not be", f"{KEYS}/etcd-ca.crt"),
        ),
    ),
    Item("3.2.1", "an audit policy", _set(API, "audit-policy-file")),
    Item(
        "3.2.2",
        "… that has what matters, and no secret",
        (
            Says(f"{KEYS}/audit-policy.yaml", r"level: Metadata"),
            Says(f"{KEYS}/audit-policy.yaml", r"secrets"),
        ),
    ),
    Item(
        "4.1.1",
        "kubelet's unit: mode 600",
        (Files("/etc/systemd/system/kubelet.service", "600"),),
        "not held",
        "systemd shows a unit to everybody, whatever its mode, and warns of one that is not "
        "readable; it holds no secret",
    ),
    Item(
        "4.1.2",
        f"kubelet's unit: owner {ROOT}",
        (Files("/etc/systemd/system/kubelet.service", owner=ROOT),),
    ),
    *_files("4.1.3", "kube-proxy's credential", "/var/lib/kube-proxy/kubeconfig"),
    *_files("4.1.5", "kubelet's credential", "/var/lib/kubelet/kubeconfig"),
    *_files("4.1.7", "the CA that kubelet knows", f"{KEYS}/ca.crt", "644"),
    *_files("4.1.9", "kubelet's configuration", "/var/lib/kubelet/config.yaml"),
    Item(
        "4.2.1",
        "nobody without a credential is answered",
        (Setting("kubelet", "authentication.anonymous.enabled", "be", "false"),),
    ),
    Item(
        "4.2.2",
        "not everything is allowed",
        (Setting("kubelet", "authorization.mode", "be", "Webhook"),),
    ),
    Item("4.2.3", "clients' certificates", _set("kubelet", "authentication.x509.clientCAFile")),
    Item(
        "4.2.4",
        "no port that asks for no credential",
        (Setting("kubelet", "readOnlyPort", "be", "0", "0"),),
    ),
    Item(
        "4.2.5",
        "idle streams end",
        (Setting("kubelet", "streamingConnectionIdleTimeout", "not be", "0", "4h0m0s"),),
    ),
    Item(
        "4.2.6",
        "kubelet makes its chains of iptables",
        (Setting("kubelet", "makeIPTablesUtilChains", "be", "true", "true"),),
    ),
    Item(
        "4.2.7",
        "the node has its host's own name",
        (Setting("kubelet", "hostname-override", "not be set"),),
        "not held",
        "a node is called what the inventory calls it, or what its `hostname_override` says",
    ),
    Item(
        "4.2.8",
        "a limit of events",
        (Setting("kubelet", "eventRecordQPS", "at least", "1", "50"),),
    ),
    Item("4.2.9", "TLS", _set("kubelet", "tlsCertFile", "tlsPrivateKeyFile")),
    Item(
        "4.2.10",
        "kubelet rotates its client certificate",
        verdict="not applicable",
        reason="the credential comes from the control machine, and runs renew it",
    ),
    Item(
        "4.2.11",
        "kubelet rotates its serving certificate",
        verdict="not applicable",
        reason="the certificate comes from the control machine, and runs renew it",
    ),
    Item(
        "4.2.12",
        "strong ciphers",
        (Setting("kubelet", "tlsCipherSuites", "within", ",".join(CIPHERS)),),
    ),
    Item(
        "4.2.13",
        "a limit of processes in a pod",
        (Setting("kubelet", "podPidsLimit", "at least", "1"),),
    ),
    Item(
        "4.2.14",
        "a profile of system calls by default",
        (Setting("kubelet", "seccompDefault", "be", "true"),),
    ),
    Item(
        "4.3.1",
        "metrics on the loopback alone",
        (Setting("kube-proxy", "metricsBindAddress", "be", "127.0.0.1:10249", "127.0.0.1:10249"),),
    ),
)


class Mode(NamedTuple):
    """
    What files of a host must have. The first pattern that fits a path counts.

    + pattern: of their paths; ``*`` stands for a part of one name
    + mode: exactly
    + what: they are
    """

    pattern: str
    mode: str
    what: str


FOLDERS = (
    KEYS,
    "/etc/kubernetes",
    "/etc/cni/net.d",
    "/etc/containerd",
    "/etc/kube-flannel",
    "/var/lib/kube-proxy",
    "/var/log/kube-apiserver",
)
"""Where a file without a row is one too many."""

MODES: tuple[Mode, ...] = (
    Mode(f"{KEYS}/*.crt", "644", "certificates, which are shown to everybody who asks"),
    Mode(f"{KEYS}/*.pub", "644", "public keys"),
    Mode(f"{KEYS}/*.key", "600", "private keys"),
    Mode(f"{KEYS}/*.kubeconfig", "600", "credentials"),
    Mode(f"{KEYS}/known_tokens.csv", "600", "tokens"),
    Mode(f"{KEYS}/encryption.yaml", "600", "keys of Secrets"),
    Mode(f"{KEYS}/audit-policy.yaml", "644", "what the audit log has"),
    Mode(f"{KEYS}/authentication.yaml", "644", "who is answered without a credential"),
    Mode(f"{KEYS}/kube-scheduler.yaml", "600", "configuration"),
    Mode(KEYS, "755", "the folder of all these"),
    Mode(f"{MANIFESTS}/*.yaml", "600", "static pods"),
    Mode(MANIFESTS, "700", "their folder: a file in it is a pod that may do everything"),
    Mode("/etc/kubernetes", "755", "its parent"),
    Mode("/etc/cni/net.d/*", "600", "CNI's networks"),
    Mode("/etc/cni/net.d", "755", "their folder"),
    Mode("/etc/containerd/config.toml", "644", "containerd's configuration"),
    Mode("/etc/containerd", "755", "its folder"),
    Mode("/etc/kube-flannel/kubeconfig", "600", "flanneld's credential"),
    Mode("/etc/kube-flannel/net-conf.json", "644", "flannel's network"),
    Mode("/etc/kube-flannel", "755", "their folder"),
    Mode("/var/lib/kube-proxy/*", "600", "kube-proxy's credential and configuration"),
    Mode("/var/lib/kube-proxy", "700", "their folder"),
    Mode("/var/log/kube-apiserver/*", "600", "the audit log"),
    Mode("/var/log/kube-apiserver", "700", "its folder"),
)

HEAD = f"""\
# The CIS benchmark

What the CIS Kubernetes Benchmark {BENCHMARK} asks of files, flags and fields, and what a cluster
has of it that is built by `deploys/scratch.py` with the defaults of 1.37. Its other items, 3.1 and
5, are about the people and the objects in a cluster. The numbers are the benchmark's, the words are
ours. An end-to-end test looks at each item on built hosts: at files, and at the command lines and
configuration files of the processes that run.

This page is made from [tests/cis.py](../tests/cis.py) by `make settings`.

"""

MODES_HEAD = f"""\

## Modes and owners

Exactly these modes have the files of a host, and all belong to {ROOT}. A file in one of their
folders that is not in this table makes a test fail.

"""


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    """The text of the page."""
    rows = [[one.number, one.what, one.verdict, _by(one)] for one in ITEMS]
    modes = [[f"`{one.pattern}`", one.mode, one.what] for one in MODES]
    return "".join(
        [
            HEAD,
            _counted(ITEMS),
            table(["item", "what it asks for", "", "by what, or why not"], rows),
            MODES_HEAD,
            table(["files", "mode", "what they are"], modes),
        ]
    )


def _by(one: Item) -> str:
    return one.reason or "; ".join(map(str, one.checks))


def _counted(items: Iterable[Item]) -> str:
    def of(verdict: Verdict) -> Iterator[Item]:
        return (one for one in items if one.verdict == verdict)

    counts = [f"{len(list(of(verdict)))} {verdict}" for verdict in ("held", "not held")]
    return f"{', '.join(counts)}, {len(list(of('not applicable')))} not applicable.\n\n"


if __name__ == "__main__":
    main()
