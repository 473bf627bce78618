"""A cluster as it is wanted: read from an inventory and checked whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pyinfra_kube.cluster.errors import refuse
from pyinfra_kube.cluster.spec.base import BaseSpec
from pyinfra_kube.cluster.spec.checks import problems_between
from pyinfra_kube.cluster.spec.host import HostSpec
from pyinfra_kube.cluster.spec.inventory import Data, Groups, read


class ClusterSpec(BaseSpec):
    """
    A cluster as it is wanted. Made by `from_inventory`; its fields are the keys of the inventory,
    each declared in ``settings.py``.
    """

    @classmethod
    def from_inventory(cls, groups: Groups, data: Data) -> ClusterSpec:
        """
        Read an inventory, or say everything that is wrong with it.

        + groups: group → its hosts in order; the guide's names are known too
        + data: host → its inventory data, as pyinfra merged it

        Hosts outside our groups are not looked at. Raises ``InputError``.

        ```
        ClusterSpec.from_inventory(
            {"control_plane": ["m1"], "nodes": ["n1", "n2"]},
            {"m1": {"kubernetes_version": "1.20.2", "control_plane_endpoint": "192.168.10.4"}},
        )
        ```
        """
        spec, wrong, problems = read(cls, groups, data)
        refuse([*problems, *problems_between(spec, wrong)])
        return spec

    def with_addresses(
        self, addresses: Mapping[str, str], through: Collection[str] = ()
    ) -> ClusterSpec:
        """
        The same with addresses that hosts told; checked as if they had been written.

        + addresses: host → its address
        + through: hosts whose flanneld must be told that address, unless it has an interface

        Raises ``InputError``.
        """

        def told(host: HostSpec) -> HostSpec:
            address = addresses.get(host.name, host.address)
            iface = host.flannel_iface or (address if host.name in through else None)
            return host.model_copy(update={"address": address, "flannel_iface": iface})

        spec = self.model_copy(update={"hosts": tuple(map(told, self.hosts))})
        refuse(problems_between(spec))
        return spec
