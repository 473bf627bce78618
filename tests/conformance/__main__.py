"""`python -m tests.conformance`: build a cluster in the lab, judge it, and write the page."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from pyinfra_kube.cluster.releases import minor_of
from tests.conformance import images, registry, report
from tests.conformance.cluster import Judged
from tests.conformance.images import Programs
from tests.conformance.report import Result
from tests.conformance.suite import PARALLEL, SERIAL
from tests.e2e.paths import REPOSITORY
from tests.lab import Lab, down, go_build, held, kubernetes, state
from tests.lab.machine import LabError, require_root
from tests.lab.places import LOGS, NAME, RUN

PAGE = REPOSITORY / "docs/conformance.md"


def judge(judged: Judged, folder: Path, processes: int, cluster: str) -> Result:
    """
    Run the whole suite, and whatever did not pass once more, alone.

    + folder: for what is said
    + processes: how many specs at once, of those that may run beside others
    + cluster: what the page calls it
    """
    facts, known = judged.facts(), judged.suite.specs()
    later = [name for name, since in known.items() if since > judged.lab.release.minor]
    phases = [
        judged.run(folder, "parallel", labels=PARALLEL, without=later, processes=processes),
        judged.run(folder, "serial", labels=SERIAL, without=later),
    ]
    specs = [name for name in known if name not in later]
    result = Result(cluster, specs, phases, facts=facts, later=later)
    if result.unfinished:
        repeated = judged.run(folder, "repeated", only=result.unfinished)
        result = replace(result, repeated=repeated)
    return replace(result, left=judged.left_over())


def judge_policies(judged: Judged, folder: Path, processes: int, cluster: str) -> Result:
    """
    Run the specs of what enforces NetworkPolicies; the arguments are those of ``judge``.
    """
    specs = judged.suite.policy_specs()
    facts = judged.facts()
    phase = judged.run(folder, "policies", labels=(), only=specs, processes=processes)
    name = f"{cluster}, NetworkPolicies by kube-router"
    return Result(name, specs, [phase], facts=facts, left=judged.left_over())


def try_some(judged: Judged, folder: Path, processes: int, cluster: str, part: str) -> Result:
    """The same of the specs that have a text in their names, for somebody who looks for a fault."""
    specs = [name for name in judged.suite.specs() if part in name]
    phase = judged.run(folder, "some", only=specs, processes=processes)
    return Result(cluster, specs, [phase], facts=judged.facts(), left=judged.left_over())


@contextmanager
def a_lab(release: str, keep: bool) -> Iterator[Lab]:
    """The lab that is up, or else one that is down again afterwards."""
    with held():
        if state.load():
            yield Lab.load()
            return
        try:
            yield Lab.up(release=release)
        finally:
            if not keep:
                down()


@contextmanager
def a_cluster(options: argparse.Namespace) -> Iterator[Judged]:
    """The cluster that is asked for, with the images of the suite at hand."""
    release = "{}.{}".format(*minor_of(kubernetes.choice(os.environ.get("KUBERNETES_VERSION", ""))))
    programs = Programs.built(release)
    storage = images.stored(programs)
    settings = {"network": options.network, "credentials_dir": str(RUN / "credentials")}
    if options.network == "flannel":
        settings["flannel_source"] = str(go_build.built("flannel"))
    if options.proxy_mode:
        settings["proxy_mode"] = options.proxy_mode
    if options.policies:
        settings["network_policies"] = True
    with a_lab(release, options.keep) as lab:
        judged = Judged(lab, programs, settings)
        serving = registry.serving(storage, judged.mirror.address, read_only=True)
        with serving, tempfile.TemporaryDirectory() as folder:
            judged.build(Path(folder) / "site")
            judged.pull()
            yield judged


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--network", choices=("routes", "flannel"), default="routes")
    parser.add_argument("--proxy-mode", choices=("iptables", "nftables"), help="another than usual")
    parser.add_argument(
        "--policies", action="store_true", help="the specs of NetworkPolicies, on kube-router"
    )
    parser.add_argument("--processes", type=int, default=8, help="specs at once, by default 8")
    parser.add_argument("--only", metavar="TEXT", help="specs with it in their names; no page")
    parser.add_argument("--keep", action="store_true", help="leave a lab up that was down")
    options = parser.parse_args()
    folder = LOGS / f"conformance-{NAME}-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
    try:
        require_root()
        with a_cluster(options) as judged:
            words = folder, options.processes, judged.cluster(options.network)
            if options.only:
                result = try_some(judged, *words, options.only)
            else:
                result = (judge_policies if options.policies else judge)(judged, *words)
    except (LabError, AssertionError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    if not options.only:
        PAGE.write_text(report.page(PAGE.read_text() if PAGE.exists() else "", result))
    print(report.section(result))
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
