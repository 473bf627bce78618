"""Inventory data becomes a spec, or every problem at once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyinfra_kube.cluster.errors import HIDDEN, InputError, Problem
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.checks import check_endpoint
from pyinfra_kube.cluster.spec.inventory import CLUSTER_KEYS, KEYS

GROUPS = {"control_plane": ["m1"], "nodes": ["n1", "n2"]}
CLUSTER = {"kubernetes_version": "1.20.2", "control_plane_endpoint": "192.168.10.4"}
HOSTS = {
    "m1": {"ssh_hostname": "192.168.10.4"},
    "n1": {"ssh_hostname": "192.168.10.5"},
    "n2": {"ssh_hostname": "192.168.10.6"},
}

Expected = tuple[str, str | None, str, str]


def read(
    every: dict[str, Any] | None = None,
    groups: dict[str, list[str]] | None = None,
    **hosts: dict[str, Any],
) -> ClusterSpec:
    """A spec of the usual inventory with other data for every host, or for some."""
    data = {
        name: CLUSTER | (every or {}) | HOSTS.get(name, {}) | hosts.get(name, {})
        for name in dict.fromkeys([*HOSTS, *hosts])
    }
    return ClusterSpec.from_inventory(groups or GROUPS, data)


def problems_of(*args: Any, **hosts: Any) -> list[Problem]:
    with pytest.raises(InputError) as error:
        read(*args, **hosts)
    return error.value.problems


# What is wrong with one value of the whole cluster: the value, what is allowed, the fix.
WRONG: list[tuple[str, object, str, str]] = [
    # A value of a wrong type
    ("kubernetes_version", 1.20, "in quotes", '"1.2.7" or "1.20.15" in quotes'),
    ("kubernetes_version", 1.16, "in quotes", '"1.16.15" in quotes'),
    ("kubernetes_version", 1, "in quotes", ""),
    ("kubernetes_version", True, "in quotes", ""),
    ("kubernetes_version", None, "in quotes", ""),
    ("kubernetes_version", "v1.37", "in quotes", '"1.37.2"'),
    ("kubernetes_version", "1.37-rc.1", "in quotes", ""),
    ("kubernetes_version", "1.99", "a release of", "nearest known"),
    ("kubernetes_version", "v1.20.2", "in quotes", 'write "1.20.2"'),
    ("kubernetes_version", "latest", "in quotes", ""),
    ("etcd_version", 3.4, "of etcd in quotes", '"3.4.13" in quotes'),
    ("etcd_version", "3.6", "of etcd in quotes", 'write "3.6.11"'),
    ("cluster_name", True, "text in quotes", ""),
    ("cluster_name", 7, "text in quotes", 'write "7"'),
    ("secure_port", "6443", "a whole number", "write 6443 without quotes"),
    ("secure_port", 6443.0, "a whole number", ""),
    ("secure_port", True, "a whole number", ""),
    ("route_pods", "no", "True or False", "write False without quotes"),
    ("route_pods", 1, "True or False", "write True"),
    ("insecure_registries", "reg:5000", "a list", 'write ["reg:5000"]'),
    ("rpm_files", {"a"}, "a list", ""),
    ("credentials_dir", "~nobody_here/kept", "the home of a user here", ""),
    ("kubernetes_source", "release\0", "text of one line", ""),
    ("certificate_days", 10**12, "at most 36500", ""),
    ("docker_options", ["a"], "a dictionary", ""),
    ("docker_options", {"a": {1, 2}}, "a dictionary of text", ""),
    ("docker_options", {"a": float("nan")}, "a dictionary of text", ""),
    ("cluster_cidr", 10, "text in quotes", ""),
    ("node_swap", "yes", "True or False or 'remove'", "write True without quotes"),
    ("node_swap", "Remove", "True or False or 'remove'", "did you mean remove?"),
    ("node_swap", [1], "True or False or 'remove'", ""),
    ("packet_filter", None, "'iptables' or 'nftables'", "leave it out"),
    ("bridge_mtu", None, "a whole number", "leave it out"),
    # A value that there is not
    ("apiserver_approach", "HTTPS", "'https' or 'http'", "did you mean https?"),
    ("credential_policy", "per-node", "'per_node'", "did you mean per_node?"),
    ("flannel_backend", "vxlam", "'vxlan'", "did you mean vxlan?"),
    ("authorization_mode", "Node,RBACK", "AlwaysAllow", "did you mean RBAC?"),
    ("secure_port", 0, "at least 1", ""),
    ("secure_port", 65536, "at most 65535", ""),
    ("log_level", -1, "at least 0", ""),
    ("cluster_name", "a/b", "letters, digits", ""),
    ("cluster_domain", "Cluster.Local", "a DNS name", 'write "cluster.local"'),
    ("cluster_domain", "cluster.local.", "a DNS name", 'write "cluster.local"'),
    ("manifest_dir", "etc/kubernetes", "an absolute path", ""),
    ("manifest_dir", "/etc/kubernetes/", "an absolute path", 'write "/etc/kubernetes"'),
    ("manifest_dir", "/etc/a/../kubernetes", "without . and ..", 'write "/etc/kubernetes"'),
    ("control_plane_endpoint", 6443, "text in quotes", ""),
    ("control_plane_endpoint", "fd00::4", "IPv6 is not built here", ""),
    ("control_plane_endpoint", "[fd00::4]:6443", "IPv6 is not built here", ""),
    ("control_plane_endpoint", "127.0.0.1", "loopback", ""),
    ("control_plane_endpoint", "localhost:6443", "other hosts can reach", ""),
    ("control_plane_endpoint", "192.168.10.256", "an IPv4 address", ""),
    ("control_plane_endpoint", "192.168.10.4:0", "1 to 65535", 'write "192.168.10.4"'),
    ("control_plane_endpoint", "192.168.10.4:65536", "1 to 65535", 'write "192.168.10.4"'),
    ("control_plane_endpoint", "k8s.example.com:", "1 to 65535", 'write "k8s.example.com"'),
    ("control_plane_endpoint", "https://k8s.example.com:443/", "scheme", '"k8s.example.com:443"'),
    ("control_plane_endpoint", "K8s.Example.Com:443", "host:port", '"k8s.example.com:443"'),
    ("control_plane_endpoint", "k8s_api", "host:port", ""),
    ("control_plane_endpoint", "", "host:port", ""),
    ("flannel_vni", 0, "at least 1", ""),
    ("flannel_vni", 2**24, "at most 16777215", ""),
    ("docker_mtu", 575, "at least 576", ""),
    ("host_mtu", 65536, "at most 65535", ""),
    ("registry_mirrors", {"quay.io": "https://a.example.com"}, "with docker", "leave it out"),
    # Networks
    ("cluster_cidr", "10.10.3.0/16", "without host bits", 'write "10.10.0.0/16"'),
    ("service_cidr", "10.0.0.1/16", "without host bits", 'write "10.0.0.0/16"'),
    ("cluster_cidr", "10.10.0.0", "with its length", "write the length too"),
    ("cluster_cidr", "10.10.0.0/255.255.0.0", "with its length", 'write "10.10.0.0/16"'),
    ("cluster_cidr", "10.10.0.0/33", "with its length", ""),
    ("cluster_cidr", "ten", "with its length", ""),
    ("cluster_cidr", "fd00:10::/64", "IPv6 is not built here", ""),
    ("cluster_cidr", "169.254.0.0/16", "link-local", 'example "10.1.0.0/16"'),
    ("service_cidr", "10.10.128.0/20", "apart from cluster_cidr", '"10.0.0.0/20"'),
    ("service_cidr", "192.168.10.0/24", "192.168.10.4", '"10.0.0.0/24"'),
    ("service_cidr", "172.16.0.0/11", "without host bits", ""),
    ("service_cidr", "10.0.0.0/29", "/12 to /28", ""),
    ("cluster_dns", "10.10.0.10", "an address of the services", 'write "10.0.0.10"'),
    ("cluster_dns", "10.0.0.1", "from 10.0.0.2", 'write "10.0.0.10"'),
    ("cluster_dns", "10.0.255.255", "to 10.0.255.254", 'write "10.0.0.10"'),
    ("node_cidr_mask_size", 15, "from 16 to 30", ""),
    ("node_cidr_mask_size", 31, "from 16 to 30", ""),
    ("max_pods", 254, "at most 253", ""),
    ("bridge_mtu", 1501, "at most 1500", "write 1500"),
    # What a release has not
    ("kubernetes_version", "1.99.0", "a release of 1.2", "1.37"),
    ("apiserver_approach", "http", "https", ""),
    ("cloud_provider", "vagrant", "aws", ""),
    ("hyperkube", True, "1.20", ""),
    ("network", "none", "routes, flannel (Kubernetes 1.20)", "a network of ours"),
    ("proxy_mode", "nftables", "iptables, ipvs, none (Kubernetes 1.20)", "leave it unset"),
    ("authorization_mode", "RBAC,RBAK", "AlwaysAllow", "RBAC"),
    ("kubelet_flags", {"api-servers": "http://m1"}, "a flag of kubelet 1.20", "kubeconfig"),
    # What other values say
    ("certificate_renew_days", 365, "less than certificate_days", ""),
    ("etcd_client_port", 6443, "apart from secure_port", ""),
    ("etcd_listen_client_urls", "http://0.0.0.0:2379", "URLs with https", "etcd_tls = False"),
    ("etcd_listen_client_urls", "https://0.0.0.0", "an address and a port", ""),
    ("etcd_listen_client_urls", "https://192.168.10.4:2379", "where clients ask", "0.0.0.0:2379"),
    ("etcd_listen_client_urls", "https://0.0.0.0:1", "port 2379 too", "set etcd_client_port"),
    ("etcd_version", "2.2.5", "3.0 or later", ""),
    ("flannel_version", "latest", "a version of flannel", ""),
]


@pytest.mark.parametrize(
    ("registry", "mirror", "allowed", "fix"),
    [
        ("quay.io", "a.example.com", "a URL", 'write "https://a.example.com"'),
        ("quay.io", ["https://me:pw@a.example.com"], "a URL", 'write "https://a.example.com"'),
        ("https://quay.io/", "https://a.example.com", "a registry", 'write "quay.io"'),
        ("quay.io", 5000, "a list", None),
    ],
)
def test_a_wrong_mirror(registry: str, mirror: object, allowed: str, fix: str | None) -> None:
    (problem,) = problems_of({"registry_mirrors": {registry: mirror}})
    assert (problem.key, problem.fix) == (f"registry_mirrors.{registry}", fix)
    assert allowed in problem.allowed


@pytest.mark.parametrize(("key", "value", "allowed", "fix"), WRONG)
def test_a_wrong_value_of_the_cluster(key: str, value: object, allowed: str, fix: str) -> None:
    (problem,) = problems_of({key: value})
    assert (problem.key, problem.host) == (key, None)
    assert allowed in problem.allowed
    assert fix in (problem.fix or "")


# What is wrong with values for which nobody knows a right one: no fix is better than a wrong one.
NO_FIX: list[tuple[str, object]] = [
    ("kubernetes_version", 1),
    ("etcd_version", 3),
    ("etcd_version", "1.37"),
    ("kubelet_root", "/"),
    ("etcd_data_dir", "/var/.."),
    ("manifest_dir", "/etc/a\nb"),
]


@pytest.mark.parametrize(("key", "value"), NO_FIX)
def test_a_wrong_value_without_a_fix(key: str, value: object) -> None:
    (problem,) = problems_of({key: value})
    assert (problem.key, problem.fix) == (key, None)


# Whom etcd is for, where it listens, and whether all of them find it there.
LISTENS = [
    ({}, "127.0.0.1", True),
    ({}, "192.168.10.4", False),
    ({"network": "flannel"}, "127.0.0.1", False),
    ({"network": "flannel"}, "127.0.0.1,192.168.10.4", True),
    ({"network": "flannel"}, "192.168.10.4", False),
    ({"groups": {**GROUPS, "etcd": ["n1"]}}, "127.0.0.1", False),
    ({"groups": {**GROUPS, "etcd": ["n1"]}}, "192.168.10.5", True),
]


@pytest.mark.parametrize(("cluster", "listens", "found"), LISTENS)
def test_where_etcd_listens(cluster: dict[str, Any], listens: str, found: bool) -> None:
    data = {key: value for key, value in cluster.items() if key != "groups"}
    data["etcd_listen_client_urls"] = ",".join(f"https://{a}:2379" for a in listens.split(","))
    if found:
        assert read(data, cluster.get("groups"))
    else:
        (problem,) = problems_of(data, cluster.get("groups"))
        assert problem.allowed == "the addresses where clients ask"


def test_a_flag_is_one_line() -> None:
    (problem,) = problems_of({"kubelet_flags": {"v": "4\nUser=x"}})
    assert problem.key == "kubelet_flags.v"
    assert problem.allowed.startswith("text of one line or a whole number")
    assert read({"kubelet_flags": {"v": "4"}, "etcd_listen_client_urls": "https://[::]:2379"})


def test_no_label_is_emptied() -> None:
    (problem,) = problems_of({"node_labels": {"disk": "a b"}})[:1]
    assert (problem.key, problem.fix) == ("node_labels.disk", None)


MORE_WRONG: dict[str, tuple[dict[str, Any], list[Expected]]] = {
    "a bridge address larger than vxlan leaves": (
        {"every": {"network": "flannel", "bridge_mtu": 1460}},
        [("bridge_mtu", None, "at most 1450", "write 1450")],
    ),
    "Secrets encrypted by two": (
        {
            "every": {
                "kubernetes_version": "1.37.2",
                "encryption": True,
                "apiserver_flags": {"encryption-provider-config": "/etc/own.yaml"},
            }
        },
        [("encryption", None, "False, for apiserver_flags", "leave one of the two out")],
    ),
    "packages from files, and no file": (
        {"every": {"package_source": "rpm"}},
        [("rpm_files", None, "at least one file", "")],
    ),
    "a flanneld from nowhere": (
        {"every": {"kubernetes_version": "1.37.2", "network": "flannel"}},
        [("flannel_source", None, "where flanneld comes from", "flanneld-amd64")],
    ),
    "flannel's range beside that of the nodes' pod CIDRs": (
        {
            "every": {
                "kubernetes_version": "1.24.0",
                "network": "flannel",
                "flannel_source": "/flanneld",
                "cluster_cidr": "10.10.0.0/16",
                "flannel_network": "10.10.0.0/20",
            }
        },
        [("flannel_network", None, "cluster_cidr 10.10.0.0/16", "leave it out")],
    ),
    "a flanneld of no known version": (
        {"every": {"network": "flannel", "flannel_source": "https://example.com/flanneld"}},
        [("flannel_version", None, "the version of flannel_source", "")],
    ),
    "a flanneld that speaks an API that etcd has no more": (
        {
            "every": {
                "kubernetes_version": "1.37.2",
                "network": "flannel",
                "flannel_store": "etcd",
                "flannel_source": "/flanneld",
                "flannel_version": "v0.17.0",
            }
        },
        [("flannel_version", None, "0.18 or later", "")],
    ),
    "docker's MTU too": (
        {"every": {"network": "flannel", "flannel_backend": "udp", "docker_mtu": 1500}},
        [("docker_mtu", None, "at most 1472", "write 1472")],
    ),
    "public ranges where they are not allowed": (
        {"every": {"cluster_cidr": "18.16.0.0/16", "allow_public_ranges": False}},
        [("cluster_cidr", None, "private range", '"10.1.0.0/16"')],
    ),
    "a range too large to be counted in": (
        {
            "every": {
                "cluster_cidr": "10.0.0.0/8",
                "node_cidr_mask_size": 25,
                "service_cidr": "172.30.0.0/16",
            }
        },
        [("node_cidr_mask_size", None, "from 8 to 24", "")],
    ),
    "a range smaller than a share": (
        {"every": {"cluster_cidr": "10.10.0.0/29"}},
        [("node_cidr_mask_size", None, "from 29 to 30", "")],
    ),
    "flannel's shares in flannel's range": (
        {"every": {"network": "flannel", "flannel_network": "10.10.0.0/23"}},
        [("flannel_subnet_len", None, "from 25 to 30", "")],
    ),
    "flannel's range smaller than any share": (
        {"every": {"network": "flannel", "flannel_network": "10.10.0.0/29"}},
        [("flannel_network", None, "at least /28", "")],
    ),
    "flannel's range elsewhere": (
        {
            "every": {
                "network": "flannel",
                "flannel_network": "10.99.0.0/16",
                "cluster_cidr": "10.10.0.0/16",
            }
        },
        [("flannel_network", None, "cluster_cidr 10.10.0.0/16", "leave one")],
    ),
    "a pod CIDR that flannel would not give": (
        {"every": {"network": "flannel"}, "n1": {"pod_cidr": "10.10.1.0/24"}},
        [("pod_cidr", "n1", "nothing", "remove it")],
    ),
    "more nodes than CIDRs": (
        {"every": {"cluster_cidr": "10.10.0.0/24"}},
        [("cluster_cidr", None, "2 nodes; this one has room for 1", "node_cidr_mask_size = 25")],
    ),
    "more nodes than CIDRs, with one bit left": (
        {"every": {"cluster_cidr": "10.10.0.0/29", "node_cidr_mask_size": 29}},
        [("cluster_cidr", None, "room for 1", "node_cidr_mask_size = 30, with 1 pods a node")],
    ),
    "more nodes than CIDRs of any size": (
        {"every": {"cluster_cidr": "10.10.0.0/30", "node_cidr_mask_size": 30}},
        [("cluster_cidr", None, "room for 1", "a larger range")],
    ),
    "a whole private range to move to": (
        {
            "every": {
                "cluster_cidr": "18.0.0.0/8",
                "node_cidr_mask_size": 24,
                "service_cidr": "172.30.0.0/16",
                "allow_public_ranges": False,
            }
        },
        [("cluster_cidr", None, "private range", 'for example "10.0.0.0/8"')],
    ),
    "many hosts among the pods": (
        {
            "every": {"cluster_cidr": "192.168.0.0/16"},
            "groups": {"control_plane": ["m1"], "nodes": ["n1", "n2", "n3", "n4"]},
            "n3": {"address": "192.168.10.7"},
            "n4": {"address": "192.168.10.8"},
        },
        [("cluster_cidr", None, "n1 192.168.10.5, n2 192.168.10.6 and 2 more", "")],
    ),
    "more nodes than flannel has shares": (
        {
            "every": {"network": "flannel", "flannel_subnet_len": 18},
            "groups": {"control_plane": ["m1"], "nodes": ["n1", "n2", "n3", "n4"]},
        },
        [("flannel_network", None, "4 nodes; this one has room for 3", "flannel_subnet_len = 19")],
    ),
    "a pod CIDR with host bits": (
        {"n1": {"pod_cidr": "10.10.3.7/24"}},
        [("pod_cidr", "n1", "without host bits", 'write "10.10.3.0/24"')],
    ),
    "a pod CIDR outside": (
        {"n1": {"pod_cidr": "10.11.3.0/24"}},
        [("pod_cidr", "n1", "a /24 of cluster_cidr 10.10.0.0/16", "")],
    ),
    "a pod CIDR of another size": (
        {"n1": {"pod_cidr": "10.10.2.0/23"}},
        [("pod_cidr", "n1", "a /24", 'write "10.10.2.0/24"')],
    ),
    "a pod CIDR given twice": (
        {"n1": {"pod_cidr": "10.10.3.0/24"}, "n2": {"pod_cidr": "10.10.3.0/24"}},
        [("pod_cidr", "n2", "n1 has it too", "")],
    ),
    "the guide's example: the bridge in the services": (
        {"n1": {"NODE_X_POD_CIDR": "10.0.0.0/16"}},
        [("pod_cidr", "n1", "a /24 of cluster_cidr", "")],
    ),
    "a host among the pods": (
        {"every": {"cluster_cidr": "192.168.0.0/16"}},
        [("cluster_cidr", None, "m1 192.168.10.4, n1 192.168.10.5", '"10.1.0.0/16"')],
    ),
    "the control plane among the services": (
        {
            "every": {"control_plane_endpoint": "10.0.0.4"},
            "m1": {"ssh_hostname": "m1.example.com"},
        },
        [("service_cidr", None, "the control plane 10.0.0.4", "")],
    ),
    "an unknown key, its value perhaps a secret": (
        {"every": {"cluster_cidrt": "x"}, "n1": {"registry_password": "hunter2"}},
        [
            ("cluster_cidrt", None, "a known key", "did you mean cluster_cidr?"),
            ("registry_password", "n1", "a known key", "extra_data_keys"),
        ],
    ),
    "an unknown key of some hosts": (
        {"n1": {"Master_IP": "x"}, "n2": {"Master_IP": "x"}},
        [("Master_IP", "n1, n2", "a known key", "did you mean control_plane_endpoint?")],
    ),
    "one key in two spellings": (
        {"n1": {"NODE_POD_CIDR": "10.10.1.0/24", "pod_cidr": "10.10.2.0/24"}},
        [("pod_cidr", "n1", "NODE_POD_CIDR = '10.10.1.0/24'", "")],
    ),
    "missing groups": (
        {"groups": {"mastres": ["m1"]}},
        [
            ("control_plane", None, "masters", "rename the group mastres"),
            ("nodes", None, "minions", ""),
        ],
    ),
    "empty groups": (
        {"groups": {"control_plane": [], "minions": []}},
        [
            ("control_plane", None, "at least one host", ""),
            ("nodes", None, "at least one host", ""),
        ],
    ),
    "required keys of nobody": (
        {"m1": {"kubernetes_version": None, "control_plane_endpoint": "192.168.10.4"}},
        [
            ("kubernetes_version", "n1", "m1 has None", ""),
            ("kubernetes_version", "n2", "m1 has None", ""),
            ("kubernetes_version", None, "in quotes", ""),
        ],
    ),
    "two values of one key": (
        {"m1": {"cluster_domain": "a.b"}, "n2": {"cluster_domain": "c.d"}},
        [("cluster_domain", "n2", "m1 has 'a.b'", "")],
    ),
    "one value of two types": (
        {"m1": {"log_level": 1}, "n2": {"log_level": True}},
        [("log_level", "n2", "m1 has 1", "")],
    ),
    "an endpoint that a node has": (
        {"m1": {"ssh_hostname": "192.168.10.9"}, "n1": {"ssh_hostname": "192.168.10.4"}},
        [("control_plane_endpoint", None, "m1 (192.168.10.9)", "n1 has it")],
    ),
    "an endpoint that is a node's name": (
        {"every": {"control_plane_endpoint": "n2:443"}},
        [("control_plane_endpoint", None, "m1 (192.168.10.4)", "n2 has it")],
    ),
    "two nodes of one name": (
        {"n1": {"hostname_override": "fed-node"}, "n2": {"hostname_override": "fed-node"}},
        [("hostname_override", "n2", "n1 has it too", "")],
    ),
    "two hosts with one address": (
        {"n1": {"address": "192.168.10.6"}},
        [("address", "n2", "n1 has it too", "")],
    ),
    "a host named by its address and port": (
        {"groups": {"control_plane": ["m1"], "nodes": ["10.1.2.3:2222"]}, "10.1.2.3:2222": {}},
        [
            (
                "hostname_override",
                "10.1.2.3:2222",
                "a DNS name",
                'name it as you like, with ssh_hostname = "10.1.2.3" and ssh_port = 2222',
            )
        ],
    ),
    "two hosts whose names differ in case": (
        {
            "groups": {"control_plane": ["m1"], "nodes": ["n1", "N1"]},
            "N1": {"hostname_override": "n-1"},
        },
        [("name", "N1", "n1 has it too", "names have no case")],
    ),
    "a host name that no node can have": (
        {"groups": {"control_plane": ["m1"], "nodes": ["n1", "Node_2"]}, "Node_2": {}},
        [("hostname_override", "Node_2", "a DNS name", 'write "node-2"')],
    ),
    "a host name that is too long for a node": (
        {
            "groups": {"control_plane": ["m1"], "nodes": ["n1", f"n2.{'x' * 63}"]},
            f"n2.{'x' * 63}": {},
        },
        [("hostname_override", f"n2.{'x' * 63}", "at most 63", 'write "n2"')],
    ),
    "two etcd members": (
        {"groups": {**GROUPS, "etcd": ["n1", "n2"]}},
        [("etcd", None, "1, 3 or 5", "the group etcd")],
    ),
    "two hosts of the control plane and no group etcd": (
        {"groups": {"control_plane": ["m1", "n1"], "nodes": ["n2"]}},
        [("etcd", None, "1, 3 or 5", "without it, the control plane")],
    ),
    "labels": (
        {"n1": {"node_labels": {"a b": "c", "disk": 1, "size": "very large"}}},
        [
            ("node_labels.a b", "n1", "a label's key", ""),
            ("node_labels.disk", "n1", "text in quotes", 'write "1"'),
            ("node_labels.size", "n1", "a label's value", ""),
        ],
    ),
    "flags": (
        {"every": {"proxy_flags": {"--v": 1, "masquerade-all": 1.5}}},
        [
            ("proxy_flags.--v", None, "without dashes", 'write "v"'),
            ("proxy_flags.masquerade-all", None, "text in quotes or a whole number or True", ""),
        ],
    ),
    "a port without TLS is no more, and a bridge by the kubelet neither": (
        {
            "every": {
                "kubernetes_version": "1.24.0",
                "apiserver_approach": "http",
                "bridge_approach": "kubelet",
            }
        },
        [("apiserver_approach", None, "https", ""), ("bridge_approach", None, "manual", "")],
    ),
    "wrong values do not hide each other": (
        {
            "every": {
                "kubernetes_version": 1.2,
                "cluster_cidr": "10.0.0.0/8",
                "node_cidr_mask_size": "24",
                "colour": "red",
                "control_plane_endpoint": "192.168.10.6",
            },
            "n1": {"pod_cidr": "10.1.1.1/24"},
        },
        [
            ("colour", None, "a known key", ""),
            ("pod_cidr", "n1", "without host bits", ""),
            ("kubernetes_version", None, "in quotes", ""),
            ("node_cidr_mask_size", None, "a whole number", "write 24"),
            ("control_plane_endpoint", None, "an address of the control plane", "n2 has it"),
            ("service_cidr", None, "apart from cluster_cidr", '"172.16.0.0/16"'),
        ],
    ),
}


@pytest.mark.parametrize("case", MORE_WRONG)
def test_wrong_inventories(case: str) -> None:
    inventory, expected = MORE_WRONG[case]
    problems = problems_of(**copy.deepcopy(inventory))
    assert [(p.key, p.host) for p in problems] == [(key, host) for key, host, _, _ in expected]
    for problem, (_, _, allowed, fix) in zip(problems, expected, strict=True):
        assert allowed in problem.allowed
        assert fix in (problem.fix or "")


def test_required_keys() -> None:
    with pytest.raises(InputError) as error:
        ClusterSpec.from_inventory(GROUPS, {})
    assert [str(problem) for problem in error.value.problems] == [
        "kubernetes_version is not set; allowed: a release in quotes, such as "
        '"1.37.2"; there is no default',
    ]


def test_a_problem_is_one_line_with_its_fix() -> None:
    problems = problems_of({"cluster_cidr": "10.10.3.0/16", "token": "s3cret"})
    assert [str(problem) for problem in problems] == [
        "token = (not shown); allowed: a known key; "
        "fix: If it is your own, add it to extra_data_keys",
        "cluster_cidr = '10.10.3.0/16'; allowed: a network without host bits; "
        'fix: write "10.10.0.0/16"',
    ]
    assert problems[0].value is HIDDEN
    long = Problem("key", "x" * 500, "n1", "something")
    assert str(long).startswith("n1: key = 'xxx")
    assert len(str(long)) < 200


def test_defaults_of_the_smallest_inventory() -> None:
    spec = read()
    assert spec.cluster_dns == "10.0.0.10"
    assert spec.bridge_mtu == 1460
    assert (spec.secure_port, spec.insecure_port) == (6443, 8080)
    assert (spec.etcd_client_port, spec.etcd_peer_port) == (2379, 2380)
    assert (spec.certificate_days, spec.certificate_renew_days) == (365, None)
    assert spec.flannel_network == spec.cluster_cidr == "10.10.0.0/16"
    assert [host.name for host in spec.hosts] == ["m1", "n1", "n2"]
    assert spec.etcd_members == spec.control_plane == (spec.host("m1"),)
    assert [node.name for node in spec.nodes] == ["n1", "n2"]
    assert spec.host("n1").address == "192.168.10.5"
    assert spec.host("n1").hostname_override == "n1"
    assert spec.host("m1").roles == {"control_plane", "etcd"}


FOLLOWS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"service_cidr": "172.30.0.0/24"}, {"cluster_dns": "172.30.0.10"}),
    ({"service_cidr": "172.30.0.0/28"}, {"cluster_dns": "172.30.0.10"}),
    ({"network": "flannel"}, {"bridge_mtu": 1450, "flannel_port": 8472}),
    ({"network": "flannel", "flannel_backend": "udp"}, {"bridge_mtu": 1472, "flannel_port": 8285}),
    (
        {"network": "flannel", "flannel_backend": "host-gw"},
        {"bridge_mtu": 1500, "flannel_port": None},
    ),
    ({"network": "flannel", "host_mtu": 9000, "bridge_mtu": 8950}, {"bridge_mtu": 8950}),
    ({"host_mtu": 1400}, {"bridge_mtu": 1400}),
    ({"max_pods": 253, "flannel_vni": 2**24 - 1}, {"max_pods": 253}),
    ({"network": "flannel", "flannel_network": "18.16.0.0/16"}, {"cluster_cidr": "18.16.0.0/16"}),
    ({"cloud_provider": "unset"}, {"cloud_provider": None}),
    ({"CLUSTER_NAME": "east", "CLUSTER_SUBNET": "10.20.0.0/16"}, {"cluster_name": "east"}),
    ({"extra_data_keys": ["colour"], "colour": "red"}, {"extra_data_keys": ("colour",)}),
    ({"_mine": 1, "ssh_port": "x", "sudo": 3, "docker_identifier": 1}, {"log_level": 2}),
]


@pytest.mark.parametrize(("data", "expected"), FOLLOWS)
def test_what_follows_from_what(data: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = read(data)
    assert {key: getattr(spec, key) for key in expected} == expected


def test_groups_in_the_guides_words() -> None:
    spec = read(
        groups={"control_plane": ["m1"], "minions": ["n1", "m1"], "etcd": ["n1"], "all": ["m1"]}
    )
    assert [host.name for host in spec.control_plane] == ["m1"]
    assert [host.name for host in spec.nodes] == ["m1", "n1"]
    assert [host.name for host in spec.etcd_members] == ["n1"]
    assert spec.host("m1").roles == {"control_plane", "node"}


def test_hosts_outside_our_groups_are_not_looked_at() -> None:
    data = {"m1": CLUSTER, "balancer": {"colour": "red", "kubernetes_version": "9"}}
    spec = ClusterSpec.from_inventory({"control_plane": ["m1"], "nodes": ["m1"]}, data)
    assert [host.name for host in spec.hosts] == ["m1"]


@pytest.mark.parametrize(
    ("name", "data", "address"),
    [
        ("n1", {}, None),
        ("192.168.10.7", {}, "192.168.10.7"),
        ("192.168.10.7", {"ssh_hostname": "192.168.10.8"}, "192.168.10.8"),
        ("n1", {"ssh_hostname": "n1.example.com"}, None),
        ("n1", {"ssh_hostname": "127.0.0.1", "ssh_port": 2222}, None),
        ("n1", {"ssh_hostname": "203.0.113.7", "address": "192.168.10.8"}, "192.168.10.8"),
    ],
)
def test_the_address_of_a_host(name: str, data: dict[str, Any], address: str | None) -> None:
    groups = {"control_plane": ["m1"], "nodes": [name]}
    spec = ClusterSpec.from_inventory(groups, {"m1": CLUSTER, name: data})
    assert spec.host(name).address == address


def test_an_endpoint_that_only_hosts_can_tell() -> None:
    spec = read(m1={"ssh_hostname": "m1.example.com"})
    assert check_endpoint(spec, {"m1": ["10.0.9.9", "192.168.10.4"]}) == []
    assert check_endpoint(spec, {"m1": ["10.0.9.9"]}) == []
    (problem,) = check_endpoint(spec, {"m1": ["10.0.9.9"], "n1": ["192.168.10.4"]})
    assert problem.key == "control_plane_endpoint"
    assert problem.fix == "n1 has it: is it to be in the control plane?"


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read().log_level = 5  # type: ignore[misc]


# These then follow from other data.
UNSET_BY_NONE = {"address", "hostname_override"}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=4), st.sampled_from(["m1", "n1"]))
@example({"admission_control": "\r"}, "m1")
def test_any_data_gives_a_spec_or_problems_and_nothing_else(
    data: dict[str, Any], host: str
) -> None:
    problems: list[Problem] = []
    try:
        spec = read(**{host: data})
    except InputError as error:
        problems = error.problems
    else:
        for key, value in data.items():
            kept = getattr(spec if key in CLUSTER_KEYS else spec.host(host), key)
            assert _plain(kept) == value or (key in UNSET_BY_NONE and value is None)
    for problem in problems:
        assert problem.allowed
        assert str(problem).splitlines() == [str(problem)]


NAMES = st.sampled_from(
    [
        "m1",
        "M1",
        "n1",
        "@local",
        "10.1.2.3",
        "127.0.0.1",
        "fd00::1",
        "k8s_master",
        "é",
        "",
        "a" * 300,
    ]
) | st.text(max_size=6)
HOST_DATA = st.dictionaries(
    st.sampled_from([*KEYS, "ssh_hostname", "MASTER_IP", "NODE_X_POD_CIDR", "colour", ""])
    | st.integers()
    | st.none(),
    ANYTHING
    | st.sampled_from(
        [*("fd00::1", "10.1.2.3", "10.1.2.3 ", "１０.1.2.3", "10.10.0.0/16", "1.20.2", "flannel")]
    )
    | st.binary(max_size=2),
    max_size=4,
)


@given(
    st.dictionaries(
        st.sampled_from(["control_plane", "control_plane", "nodes", "minions", "etcd", "all", ""]),
        st.lists(NAMES, max_size=3),
    ),
    st.dictionaries(NAMES, HOST_DATA, max_size=4),
    st.booleans(),
)
def test_any_inventory_gives_a_spec_or_problems_and_nothing_else(
    groups: dict[str, list[str]], data: dict[str, Any], whole: bool
) -> None:
    if whole:
        names = {name for members in groups.values() for name in members}
        data = {name: {**CLUSTER, **data.get(name, {})} for name in names}
    problems: list[Problem] = []
    try:
        spec = ClusterSpec.from_inventory(groups, data)
    except InputError as error:
        problems = error.problems
    for problem in problems:
        assert problem.allowed
        assert str(problem).splitlines() == [str(problem)]
    if problems:
        return
    overrides = [host.hostname_override for host in spec.hosts]
    assert len({name.lower() for name in overrides}) == len(overrides)
    known = [host.known_as.lower() for host in spec.hosts if host.known_as]
    assert len(set(known)) == len(known)


@pytest.mark.parametrize(
    ("name", "data", "known_as"),
    [
        ("Kube-1", {"hostname_override": "kube-1"}, "Kube-1"),
        ("k8s_master", {"hostname_override": "k8s-master"}, "k8s-master"),
        ("@local", {"hostname_override": "me"}, "me"),
        ("@local", {"hostname_override": "localhost"}, None),
        ("192.168.10.7", {}, None),
        ("n1.example.com", {}, "n1.example.com"),
    ],
)
def test_the_name_of_a_host(name: str, data: dict[str, Any], known_as: str | None) -> None:
    groups = {"control_plane": ["m1"], "nodes": [name]}
    spec = ClusterSpec.from_inventory(groups, {"m1": CLUSTER, name: data})
    assert spec.host(name).known_as == known_as


@pytest.mark.parametrize("name", ["k8s_master", "@local", "Kube_Node.Example.com", "_a_", "é-x"])
def test_the_fix_of_a_name_that_no_node_can_have_works(name: str) -> None:
    groups = {"control_plane": ["m1"], "nodes": [name]}
    with pytest.raises(InputError) as failure:
        ClusterSpec.from_inventory(groups, {"m1": CLUSTER, name: {}})
    (problem,) = failure.value.problems
    fixed = {"hostname_override": (problem.fix or "").split('"')[1]}
    assert ClusterSpec.from_inventory(groups, {"m1": CLUSTER, name: fixed}).host(name).known_as


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def test_no_problem_shows_the_password_of_a_url() -> None:
    said = Problem("etcd_sha256", None, None, "a digest; https://me:pw@a.example.com has none", "x")
    assert "pw" not in str(said)
