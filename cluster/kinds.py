"""Kinds of Kubernetes' own objects: what the API calls them in paths."""

from __future__ import annotations

# Those of no namespace.
_WIDE = frozenset(
    {
        *("APIService", "ClusterRole", "ClusterRoleBinding", "CSIDriver", "CSINode"),
        *("CustomResourceDefinition", "FlowSchema", "IngressClass", "MutatingWebhookConfiguration"),
        *("Namespace", "Node", "PersistentVolume", "PodSecurityPolicy", "PriorityClass"),
        *("PriorityLevelConfiguration", "RuntimeClass", "StorageClass", "VolumeAttachment"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
        *("ValidatingWebhookConfiguration", "CertificateSigningRequest", "DeviceClass"),
    }
)


def plural(kind: str) -> str:
    """
    Give the name of a kind in paths.

    + kind: one of Kubernetes' own

    ```
    >>> plural("NetworkPolicy"), plural("StorageClass"), plural("Gateway"), plural("Endpoints")
    ('networkpolicies', 'storageclasses', 'gateways', 'endpoints')
    ```
    """
    name = kind.lower()
    if name == "endpoints":
        return name
    if name.endswith("s"):
        return f"{name}es"
    return f"{name[:-1]}ies" if name[-1:] == "y" and name[-2] not in "aeiou" else f"{name}s"


def path_of(version: str, kind: str, name: str, namespace: str = "") -> str:
    """
    Give the path of an object of Kubernetes' own kinds; empty for a kind of somebody else's.

    + version: with its group, such as ``apps/v1``
    + kind, name: of the object
    + namespace: that it says; ``default`` where it says none and is in one

    ```
    >>> path_of("v1", "Service", "kube-dns", "kube-system")
    '/api/v1/namespaces/kube-system/services/kube-dns'
    >>> path_of("rbac.authorization.k8s.io/v1", "ClusterRole", "reader")
    '/apis/rbac.authorization.k8s.io/v1/clusterroles/reader'
    >>> path_of("example.com/v1", "Shop", "corner")
    ''
    ```
    """
    group = version.rpartition("/")[0]
    if "." in group and not group.endswith(".k8s.io"):
        return ""
    space = "" if kind in _WIDE else f"/namespaces/{namespace or 'default'}"
    return f"/api{'s' if group else ''}/{version}{space}/{plural(kind)}/{name}"
