"""
Say what is wrong with a cluster: every check on every host, each cause once, with its consequences.
It changes nothing, on no host and not here, and needs no credentials of this machine.

    pyinfra INVENTORY deploys/verify.py -y
    pyinfra INVENTORY deploys/verify.py -y --data verify_json=found.json
"""

from __future__ import annotations

from pathlib import Path

from pyinfra import logger
from pyinfra.api.exceptions import DeployError
from pyinfra.context import ctx_state

from pyinfra_kube.checks.report import document, summary, text
from pyinfra_kube.deploys.run.readings import judge_cluster
from pyinfra_kube.engine.phase import phase


@phase("Verification")
def verify() -> None:
    """
    Ask all hosts, and print the verdict, once.

    Raises ``DeployError`` where a check fails.
    """

    cluster, verdict, new = judge_cluster(ctx_state.get())
    if not new:
        return
    for line in ["", *text(verdict).splitlines(), ""]:
        logger.info(f"    {line}".rstrip())
    if cluster.spec.verify_json:
        Path(cluster.spec.verify_json).expanduser().write_text(document(verdict))
    if verdict.failed:
        raise DeployError(summary(verdict))


if "__name__" not in globals():
    verify()
