"""
What a cluster runs for itself as ordinary objects of its API: access to kubelets, DNS.
"""

from __future__ import annotations

import json
import shlex

from netaddr import IPAddress

from pyinfra_kube.cluster.certificates import trusted
from pyinfra_kube.cluster.components import flanneld
from pyinfra_kube.cluster.components.common import CLUSTER_ADMINS
from pyinfra_kube.cluster.components.kube_apiserver import KUBELET_CLIENTS
from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.releases import value_at
from pyinfra_kube.cluster.spec.checks import FIRST_CA
from pyinfra_kube.deploys.phases.control_plane import KUBECTL
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.context import CA_CERTIFICATE, Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.kubectl import kubectl_words
from pyinfra_kube.operations import images, objects, verify

DNS = "coredns"
"""The name of the set of CoreDNS' objects."""

# From CoreDNS 1.9.4 on, answers about the cluster itself can be kept out of the cache.
_UNCACHED = {"1.27-": True}


@phase("Access")
def allow_components() -> None:
    """Let components use the API that no role of Kubernetes' own lets them use."""

    cluster = current_cluster()
    if not cluster.is_first_control_plane:
        return
    if emergency := cluster.credentials.emergency_kubeconfig:
        # One that has just started lets in nobody by a binding before it has read them all.
        verify.verified(
            name="Wait for the apiserver to be ready",
            checks=[_ready(cluster)],
            timeout=cluster.spec.verify_timeout,
        )
        manifest = render("addons/cluster-admins.yaml.j2", group=CLUSTER_ADMINS)
        set_objects(cluster, "Let administrators in", "cluster-admins", manifest, emergency)
    whom = {"kubelet-api-admin": "the apiserver use kubelets", "flannel": "flanneld read nodes"}
    # Before anybody asks a kubelet: it keeps a refusal for half a minute.
    for owner, manifest in access_manifests(cluster).items():
        set_objects(cluster, f"Let {whom[owner]}", owner, manifest)


def access_manifests(cluster: Cluster) -> dict[str, str]:
    """
    Return what lets components use the API, by the names of the sets.

    + cluster: the cluster
    """

    found = {}
    client = value_at(KUBELET_CLIENTS, cluster.release.minor)
    if client and not client.groups:
        found["kubelet-api-admin"] = render("addons/kubelet-api-admin.yaml.j2", user=client.user)
    if cluster.spec.flannel_on_api:
        found["flannel"] = render("addons/flannel.yaml.j2", user=flanneld.USER.user)
    return found


def _ready(cluster: Cluster) -> verify.Check:
    url = f"https://127.0.0.1:{cluster.spec.secure_port}/readyz"
    ask = f"{kubectl_words(KUBECTL, ADMIN)} get --raw=/readyz"
    return verify.Check(
        f"kube-apiserver answers {url}",
        # It may have to read its certificate again, where that has ended.
        f"curl --silent --fail --cacert {CA_CERTIFICATE} --noproxy '*' --max-time 5 {url}",
        hint=f"{ask}?verbose",
    )


@phase("CAs")
def wait_for_cas() -> None:
    """Wait until the pods of each namespace are given the CAs, while others follow them."""

    cluster = current_cluster()
    if cluster.spec.ca_rotation and cluster.is_first_control_plane:
        verify.verified(
            name="Wait until pods are given the CAs",
            checks=[_published(cluster)],
            timeout=cluster.spec.verify_timeout,
        )


def _published(cluster: Cluster) -> verify.Check:
    """The controller manager writes the CAs into a ConfigMap of each namespace."""

    ask = f"{kubectl_words(KUBECTL, ADMIN)} get configmaps --all-namespaces"
    ask += " --field-selector=metadata.name=kube-root-ca.crt"
    each = '{{range .items}}{{index .data "ca.crt" | printf "%q"}}{{"\\n"}}{{end}}'
    found = f"{ask} --output=go-template={shlex.quote(each)} | sort -u"
    wanted = shlex.quote(json.dumps(cluster.credentials.ca_cert))
    return verify.Check(
        "kube-root-ca.crt of each namespace has the CAs",
        f'[ "$({found})" = {wanted} ]',
        hint=f"{ask} --output=yaml",
    )


@phase("DNS")
def load_dns_image() -> None:
    """Have the image of CoreDNS on the current host: before the waits, for it takes seconds too."""

    cluster = current_cluster()
    if _runs_dns(cluster):
        load_image(cluster, "coredns", "CoreDNS")


def _runs_dns(cluster: Cluster) -> bool:
    return bool(cluster.spec.dns and cluster.release.fact("coredns"))


@phase("DNS")
def run_dns() -> None:
    """
    Run CoreDNS as the cluster's DNS, and wait until each node gets an answer from its service.

    Names outside the cluster are asked of the servers in the resolv.conf that kubelet gives. It
    must name none on a loopback address, such as systemd-resolved's 127.0.0.53: in CoreDNS' pod
    that is CoreDNS itself.
    """

    cluster = current_cluster()
    if not _runs_dns(cluster):
        return
    if cluster.is_first_control_plane:
        set_objects(cluster, "Set CoreDNS and its service", DNS, dns_manifest(cluster), owner=DNS)
    if "none" in (cluster.spec.network, cluster.spec.proxy_mode):
        # Its pods have no network yet, or do not reach the API.
        return
    verify.verified(
        name="Wait for answers from the cluster's DNS",
        checks=dns_checks(cluster),
        timeout=cluster.spec.verify_timeout,
    )


def dns_manifest(cluster: Cluster) -> str:
    """
    Return the objects of CoreDNS.

    + cluster: the cluster
    """

    spec = cluster.spec
    hosts = [host for host in spec.hosts if {"node", "control_plane"} & {*host.roles}]
    return render(
        "addons/coredns.yaml.j2",
        domain=spec.cluster_domain,
        address=spec.cluster_dns,
        image=image_of("coredns", spec).name,
        replicas=min(2, len(hosts)),
        cas=cas_of_pods(cluster),
        uncached=bool(value_at(_UNCACHED, cluster.release.minor)),
        metrics=spec.dns_metrics,
    )


def dns_checks(cluster: Cluster) -> list[verify.Check]:
    """
    Return what must hold of the cluster's DNS on the current host.

    + cluster: the cluster
    """

    found = []
    in_system = f"{kubectl_words(KUBECTL, ADMIN)} --namespace=kube-system"
    pods = "pods --selector=k8s-app=kube-dns"
    if cluster.is_first_control_plane:
        found.append(
            verify.Check(
                "CoreDNS runs as its Deployment says",
                f"{in_system} rollout status deployment/coredns --timeout=8s",
                f"{in_system} get {pods} --output=wide; {in_system} describe {pods} | tail -n 20",
                f"kubectl --namespace=kube-system describe {pods}",
            )
        )
    if "kube-proxy" in cluster.units:
        address = cluster.spec.cluster_dns
        name = f"kubernetes.default.svc.{cluster.spec.cluster_domain}"
        found.append(
            verify.Check(
                f"{address} answers where {name} is",
                dns_query(address, name, cluster.plan.service_ip),
                hint=f"kubectl --namespace=kube-system get {pods}; journalctl -u kube-proxy",
                host=cluster.spec.control_plane[0].name,
            )
        )
    return found


def dns_query(server: str, name: str, answer: str) -> str:
    """
    Return a command that succeeds if a DNS server says by TCP that a name has one address. A blank
    host has no program for that but bash.

    + server: address of the server
    + name: the whole name
    + answer: the IPv4 address
    """

    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    # A header with the wish for recursion and one question: of type A, class IN.
    message = bytes.fromhex("4b5501000001000000000000") + labels + bytes.fromhex("0000010001")
    sent = "".join(f"\\{byte:03o}" for byte in len(message).to_bytes(2, "big") + message)
    # The end of the answer: type, class, time to live, length and address.
    end = f"00010001.{{8}}0004{int(IPAddress(answer)):08x}$"
    script = f"""\
exec 3<>/dev/tcp/{server}/53 || exit 1
printf '{sent}' >&3
set -- $(head -c 2 <&3 | od -An -v -tu1)
head -c $(($1 * 256 + $2)) <&3 | od -An -v -tx1 | tr -d ' \\n' | grep -qE '{end}'"""
    return f"timeout 5 bash -c {shlex.quote(script)}"


def set_objects(
    cluster: Cluster, name: str, title: str, manifest: str, emergency: str = "", owner: str = ""
) -> None:
    """
    Set objects of the cluster's API, on a control-plane host.

    + cluster: the cluster
    + name: of the operation
    + title: of the manifest
    + manifest: its text
    + emergency: the kubeconfig of those whom no binding lets in
    + owner: the name of the objects' set
    """

    objects.objects(
        name=name,
        manifests=[objects.Manifest(title, manifest)],
        kubectl=KUBECTL,
        kubeconfig=ADMIN,
        wait=cluster.spec.verify_timeout,
        setter=objects.Kubeconfig(emergency) if emergency else None,
        owner=owner,
    )


def load_image(cluster: Cluster, part: str, title: str) -> None:
    """
    Have the image of an add-on on the current host, if pods may run there.

    + cluster: the cluster
    + part: such as ``coredns``
    + title: what it is called
    """

    if cluster.is_a("node") or cluster.is_a("control_plane"):
        images.images(
            name=f"Load or pull the image of {title}",
            files=cluster.image(part),
            runtime=cluster.runtime.name,
            digests=cluster.spec.image_sha256,
        )


def cas_of_pods(cluster: Cluster) -> str:
    """
    Return the names of the CAs that pods read when they start; empty for those of the beginning.

    + cluster: the cluster
    """

    spec = cluster.spec
    return " ".join(sorted(trusted(spec))) if trusted(spec) != (FIRST_CA,) else ""


if "__name__" not in globals():
    run_phases([load_dns_image, allow_components, run_dns])
