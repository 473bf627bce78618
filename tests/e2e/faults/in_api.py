"""Faults that are seen in what the API tells."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.faults.fault import CLUSTER, CONTROL_PLANE, NODE, Fault
from tests.e2e.paths import ssh

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
_ENFORCE = "pod-security.kubernetes.io/enforce"
_COREDNS = "deployment/coredns"
_TAKE_RIGHTS = (
    "kubectl get clusterrolebinding system:node-proxier --output=yaml |"
    "sed '/resourceVersion/d; /uid/d' >/run/binding.yaml\n"
    "kubectl delete clusterrolebinding system:node-proxier"
)
_GIVE_RIGHTS = "kubectl create -f /run/binding.yaml"
_PROXY_AGAIN = "systemctl restart kube-proxy"
_NEW_PODS = "kubectl -n kube-system delete pods --selector=k8s-app=kube-dns --wait=false"


def _applied(manifest: dict[str, Any]) -> tuple[str, str]:
    given = f"-f - <<'END'\n{json.dumps(manifest)}\nEND"
    return f"kubectl create {given}", f"kubectl delete {given}"


def _refused(manifest: dict[str, Any]) -> tuple[str, str]:
    """What refuses the pods of CoreDNS, which are then deleted."""
    put_in, mend = _applied(manifest)
    return f"{put_in}\n{_NEW_PODS}", f"{mend}\nkubectl -n kube-system rollout restart {_COREDNS}"


FAULTS: dict[str, Fault] = {
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
    "a dead webhook that nobody met": Fault(
        "api.webhooks", CLUSTER, *_applied(_WEBHOOK), on=CONTROL_PLANE
    ),
    "pods that a dead webhook refuses": Fault(
        "api.webhooks", CLUSTER, *_refused(_WEBHOOK), on=CONTROL_PLANE, patience=40
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
    "kube-proxy without its rights": Fault(
        "api.rights", CLUSTER, _TAKE_RIGHTS, _GIVE_RIGHTS, CONTROL_PLANE
    ),
    "a kube-proxy that starts without its rights": Fault(
        "api.rights",
        CLUSTER,
        lambda lab, _: (ssh(lab, CONTROL_PLANE, _TAKE_RIGHTS), ssh(lab, NODE, _PROXY_AGAIN)),
        lambda lab, _: (ssh(lab, CONTROL_PLANE, _GIVE_RIGHTS), ssh(lab, NODE, _PROXY_AGAIN)),
    ),
    "an apiserver that may not use kubelets": Fault(
        "api.access",
        CLUSTER,
        "kubectl get clusterrolebinding pyinfra-kube:kubelet-api-admin --output=yaml |"
        "sed '/resourceVersion/d; /uid/d' >/run/binding.yaml\n"
        "kubectl delete clusterrolebinding pyinfra-kube:kubelet-api-admin",
        "kubectl create -f /run/binding.yaml",
        CONTROL_PLANE,
    ),
    "pods that the namespace's label refuses": Fault(
        "pods.made",
        CLUSTER,
        f"kubectl label namespace kube-system {_ENFORCE}=restricted\n{_NEW_PODS}",
        f"kubectl label namespace kube-system {_ENFORCE}-\n"
        f"kubectl -n kube-system rollout restart {_COREDNS}",
        CONTROL_PLANE,
        patience=40,
    ),
    "DNS at another address": Fault(
        "dns.objects",
        CLUSTER,
        "kubectl -n kube-system get service kube-dns --output=yaml |"
        "sed '/resourceVersion/d; /uid/d' >/run/dns.yaml\n"
        "kubectl -n kube-system delete service kube-dns\n"
        "sed 's/10\\.254\\.0\\.10$/10.254.0.53/' /run/dns.yaml | kubectl create -f -",
        "kubectl -n kube-system delete service kube-dns\nkubectl create -f /run/dns.yaml",
        CONTROL_PLANE,
    ),
    "a namespace that stays": Fault(
        "api.deleted",
        CLUSTER,
        "kubectl create namespace stays\nkubectl -n stays create configmap held\n"
        "kubectl -n stays patch configmap held --type=merge --patch "
        '\'{"metadata": {"finalizers": ["example.com/never"]}}\'\n'
        "kubectl delete namespace stays --wait=false",
        "kubectl -n stays patch configmap held --type=merge --patch "
        '\'{"metadata": {"finalizers": null}}\'',
        CONTROL_PLANE,
        patience=100,
    ),
    "a node that was deleted": Fault(
        "node.deleted",
        CLUSTER,
        f"kubectl get node {NODE} --output=json >/run/node.json\nkubectl delete node {NODE}",
        "kubectl create -f /run/node.json",
        CONTROL_PLANE,
        patience=60,
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
}
