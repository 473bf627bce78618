"""
Let a person use a cluster's API for some days, or take that back; say who may. Whoever's days are
over goes in every run.

    pyinfra INVENTORY deploys/access.py --data access_user=alice --data access_group=viewers
    pyinfra INVENTORY deploys/access.py --data access_revoke=alice
    pyinfra INVENTORY deploys/access.py
"""

from __future__ import annotations

from datetime import datetime, timezone

from pyinfra import logger
from pyinfra.api.exceptions import DeployError

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.access import (
    Access,
    Grant,
    access_of,
    grant_of,
    others_that_name,
    pair_of,
    problems,
)
from pyinfra_kube.cluster.errors import InputError, Problem, refuse
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.context import Cluster, current_cluster, folder_of
from pyinfra_kube.deploys.run.kubectl import kubectl_program
from pyinfra_kube.deploys.run.people import Kubeconfigs
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.access import Bindings, BindingStates
from pyinfra_kube.operations import access, control_machine


@phase("People")
def manage_access() -> None:
    """
    Let in whom ``access_user`` names, take access from whom ``access_revoke`` names, and from
    whoever has had it long enough.

    Nothing is changed while the cluster cannot tell who has access.
    """

    cluster, now = current_cluster(), datetime.now(timezone.utc)
    refuse(problems(cluster.spec, cluster.credentials.ca_cert, now))
    if cluster.credentials.new:
        folder, allowed = str(folder_of(cluster.spec)), "the folder of a cluster that is built"
        raise InputError([Problem("credentials_dir", folder, None, allowed, "build it first")])
    if cluster.host_spec.name != _asked_host(cluster):
        return
    kubectl, kubeconfigs = kubectl_program(), Kubeconfigs(folder_of(cluster.spec))
    states = read(Bindings, kubectl=kubectl, kubeconfig=ADMIN, server="")
    if states.status != "ok":
        raise _refusal(states.reason or "kubectl is not installed")
    held = kubeconfigs.read()
    found = {
        name: grant_of(name, one.role, one.annotations) for name, one in states.bindings.items()
    }
    plan = access_of(cluster.spec, found, held, cluster.credentials.ca_cert, now)
    wanted = _kubeconfigs(cluster, plan, held, now)
    named = _named_by_others(plan, states)
    _say(cluster, plan, kubeconfigs)

    access.bindings(
        name="Take access away",
        absent=list(plan.ended),
        kubectl=kubectl,
        kubeconfig=ADMIN,
    )
    control_machine.save(
        name="Keep people's kubeconfigs on the control machine",
        pending=lambda: kubeconfigs.pending(wanted),
        write=lambda: kubeconfigs.write(wanted),
    )
    access.bindings(
        name="Give access",
        present=[_binding(grant) for grant in plan.granted],
        unnamed=[*plan.ended, *named],
        kubectl=kubectl,
        kubeconfig=ADMIN,
    )


def _asked_host(cluster: Cluster) -> str:
    """The first host of the control plane that takes part in the run."""

    for host in cluster.spec.control_plane:
        if host.name in cluster.active:
            return host.name
    raise _refusal("no host of the control plane takes part in this run")


def _refusal(why: str) -> DeployError:
    return DeployError(f"it cannot be read who has access: {why}; nothing is changed before it can")


def _kubeconfigs(
    cluster: Cluster, plan: Access, held: dict[str, str], now: datetime
) -> dict[str, str]:
    """Person → kubeconfig, of those whose certificate is here."""

    pairs = {grant: pair_of(held.get(grant.person, "")) for grant in plan.kept}
    if plan.made:
        days = cluster.spec.access_days
        pairs[plan.made] = cluster.credentials.issue_client(plan.made.identity, days, now)
    return {
        grant.person: cluster.credentials.kubeconfig_of(grant.person, pair)
        for grant, pair in pairs.items()
        if pair and pki.read(pair.cert).common_name == grant.identity
    }


def _named_by_others(plan: Access, states: BindingStates) -> list[str]:
    """Users without a grant whom bindings of others name; says so."""

    live = [grant.identity for grant in plan.granted]
    named = others_that_name(live, states.others)
    for binding, users in named.items():
        logger.warning(f"{binding} lets {', '.join(users)} in, who has no access by this deploy")
    return [user for users in named.values() for user in users]


def _say(cluster: Cluster, plan: Access, kubeconfigs: Kubeconfigs) -> None:
    revoked, person = cluster.spec.access_revoke, cluster.spec.access_user
    lines = plan.table().splitlines()
    if person:
        lines += ["", f"The kubeconfig of {person}: {kubeconfigs.path(person)}"]
    for line in ["", *lines, ""]:
        logger.info(f"    {line}".rstrip())
    if revoked and "revoked" not in plan.ended.values():
        logger.warning(f"access_revoke: {revoked} has no access by this deploy")


def _binding(grant: Grant) -> access.Binding:
    return access.Binding(
        name=grant.identity,
        role=grant.role,
        person=grant.person,
        annotations=grant.annotations,
        subjects=[f"User {grant.identity}"],
    )


if "__name__" not in globals():
    manage_access()
