"""
Manage static pods: the manifests that kubelet runs by itself, without an API server.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, cast

import yaml
from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.components import PODS
from pyinfra_kube.cluster.runtimes import Runtime, runtime_named
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.failing import failure
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.pending import pending
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.files import LinkSteps
from pyinfra_kube.facts.static_pods import PodContainer, StaticPods, StaticPodStates
from pyinfra_kube.facts.times import Mtimes
from pyinfra_kube.operations.files import File, plan_files

__all__ = ["Mount", "Probe", "StaticPod", "manifest", "plan_static_pods", "static_pods"]

# kubelet starts an ended container again; if we started it, there could be two. kubelet takes the
# end for a crash and waits, up to five minutes, unless the ended container has been removed.
_AGAIN = """\
replaced() {
  waited=0
  until containers "$1" "$2" | grep -qvxF "$3"; do
    if [ "$waited" -ge "$4" ]; then return 1; fi
    sleep 1
    waited=$((waited + 1))
  done
}
again() {
  forget "$1" "$2"
  if replaced "$@" 60; then return; fi
  {
    echo "kubelet did not start $2 of $1 again in 60 s; see journalctl --unit=kubelet.service"
    last=$(containers "$1" "$2" --all | head -n 1)
    [ -z "$last" ] || logs "$last"
  } >&2
  exit 1
}
"""

# The last that kubelet's worker of a pod takes away is its control group. kubelet's housekeeping
# may be first, takes the folder then too, and the worker may not know for more than a second.
_LEAVE = """\
left=
leave() {
  manifest=$1
  shift
  for id in "$@"; do left="$left $(uid "$id" 2>/dev/null || :)"; done
  rm -f "$manifest"
}
gone() {
  waited=0 early=
  for uid in $left; do
    while [ "$waited" -lt "$1" ] &&
      find /sys/fs/cgroup -maxdepth 8 -type d -name "*pod$uid*" 2>/dev/null | grep -q .; do
      sleep 0.25
      waited=$((waited + 1))
    done
    [ -d "/var/lib/kubelet/pods/$uid" ] || early=1
  done
  [ -z "$early" ] || sleep 1.5
}"""


@dataclass(frozen=True)
class StaticPod:
    """
    One static pod.

    + name: the manifest's file name without its ending
    + manifest: the whole text
    + config: files that its containers read when they start (kubeconfigs, tokens)
    + rereads: files that they read again by themselves: a container that has ended over one of
      them is started, and one that runs stays
    + restart: restart its containers in any case
    + ready: URL that it answers when it is ready. Where it did before it is restarted, that is
      waited for; by default nothing is
    """

    name: str
    manifest: str
    config: Sequence[str] = ()
    rereads: Sequence[str] = ()
    restart: bool = False
    ready: str = ""


@dataclass(frozen=True)
class Probe:
    """
    How kubelet checks that a container is alive, ready or started.

    + port: where it answers
    + path: of the HTTP request; empty for a TCP connection only
    + scheme: ``HTTP``, or ``HTTPS`` without a check of the certificate
    + host: address of an HTTP request
    + delay: seconds before the first check
    + period: seconds between checks; by default kubelet's own, 10
    + failures: how many in a row count
    + timeout: seconds that an answer may take
    """

    port: int
    path: str = "/healthz"
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    host: str = "127.0.0.1"
    delay: int = 15
    period: int | None = None
    failures: int = 8
    timeout: int = 15


@dataclass(frozen=True)
class Mount:
    """
    A directory or file of the host that a pod sees under the same path.

    + path: absolute
    + read_only: whether the pod may only read it
    """

    path: str
    read_only: bool = True


def manifest(
    component: str,
    image: str,
    flags: Sequence[str],
    command: Sequence[str] = (),
    probe: Probe | None = None,
    mounts: Sequence[Mount] = (),
    credentials_dir: str = "/srv/kubernetes",
    data_dir: str = "/var/lib/etcd",
    log_file: str = "",
    log_dir: bool = False,
    cpu: str = "",
    priority_class: str = "",
    readiness: Probe | None = None,
    startup: Probe | None = None,
    seccomp: str = "",
) -> str:
    """
    Return the manifest of a control plane component as a static pod.

    + component: which one, such as ``kube-apiserver``
    + image: with its tag
    + flags: one a line, in this order
    + command: the words before the flags; the component's name by default, ``["/hyperkube",
      "apiserver"]`` in a hyperkube image
    + probe: its liveness; by default none
    + mounts: paths of the host, beside those that the component always has (/etc/ssl)
    + credentials_dir: mounted read-only; empty for none
    + data_dir: where etcd keeps its data
    + log_file: file below /var/log for its output; the image must have a shell
    + log_dir: mount /var/log, for a component that writes there itself
    + cpu: CPU request; by default what the component uses in a small cluster
    + priority_class: from Kubernetes 1.11, ``system-node-critical`` keeps it from being evicted
    + readiness: its readiness; by default none
    + startup: whether it has started, before the others are asked; by default none
    + seccomp: its seccomp profile, such as ``RuntimeDefault``; by default kubelet's own

    **Example:**

    .. code:: python

        static_pods.manifest(
            "etcd",
            image="k8s.gcr.io/etcd:3.4.13-0",
            flags=["--data-dir=/var/lib/etcd"],
            probe=static_pods.Probe(port=2379, path="/health"),
        )
    """

    pod = PODS[component]
    probes = {"startup": startup, "liveness": probe, "readiness": readiness}
    volumes = {
        "data": Mount(data_dir if "data" in pod.volumes else "", read_only=False),
        "srvkube": Mount(credentials_dir),
        "etcssl": Mount("/etc/ssl" if "ssl" in pod.volumes else ""),
        "logs": Mount("/var/log" if log_dir or log_file else "", read_only=False),
        **{f"mount-{number}": mount for number, mount in enumerate(mounts, 1)},
    }
    return render(
        "etc/kubernetes/manifests/component.yaml.j2",
        component=component,
        image=image,
        command=[*(command or [component]), *flags],
        probes={kind: one for kind, one in probes.items() if one},
        volumes={name: mount for name, mount in volumes.items() if mount.path},
        log_file=log_file,
        cpu=cpu or pod.cpu,
        grace=pod.grace,
        priority_class=priority_class,
        seccomp=seccomp,
    )


@operation()
def static_pods(
    pods: Sequence[StaticPod],
    directory: str = "/etc/kubernetes/manifests",
    absent: Sequence[str] = (),
    runtime: str = "docker",
    leave_first: bool = False,
    missing: Callable[[], str] = str,
) -> Generator[StringCommand, None, None]:
    """
    Set static pods, and restart those that are older than what they read.

    kubelet replaces a pod when its manifest changes; the operation waits for that, so that later
    ones reach the new pod. A container that started before one of the pod's files last changed is
    stopped, and kubelet starts it again. So a restart that a killed run left out is made by the
    next run.

    + pods: list of ``StaticPod``
    + directory: kubelet's manifest directory
    + absent: names of pods to remove, whatever the ending of their file
    + runtime: name of the container runtime
    + leave_first: take a pod that changes away before its new manifest comes. A kubelet from 1.22
      on waits 10 to 15 seconds before it starts a pod in place of one that still ends
    + missing: returns why nothing may be changed now, and is called just before a change

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import static_pods

        static_pods.static_pods(
            name="Run the apiserver as a static pod",
            pods=[
                static_pods.StaticPod(
                    "kube-apiserver",
                    manifest=text,
                    config=["/srv/kubernetes/server.crt", "/srv/kubernetes/server.key"],
                ),
            ],
            absent=["old-apiserver"],
        )
    """

    script = plan_static_pods(pods, directory, absent, runtime, leave_first)
    if script and ctx_state.get().is_executing and (why := missing()):
        yield failure(OperationError(why))
        return
    yield from run_or_noop(script, f"{len(pods)} static pods are as wanted")


def plan_static_pods(
    pods: Sequence[StaticPod],
    directory: str,
    absent: Sequence[str] = (),
    runtime: str = "docker",
    leave_first: bool = False,
) -> Script | None:
    """
    Return the script that sets static pods, or ``None`` where they are as wanted.

    + pods, directory, absent, runtime, leave_first: as of ``static_pods``
    """

    _refuse_hidden(pods)
    config = list(dict.fromkeys(path for pod in pods for path in pod.config))
    mtimes = read(Mtimes, paths=config) if config else {}
    states = read(StaticPods, directory=directory, runtime=runtime)
    wanted = {pod.name: File(f"{directory}/{pod.name}.yaml", pod.manifest, "600") for pod in pods}
    unwanted = [
        File(path, kind="absent")
        for path in states.manifests
        if PurePosixPath(path).stem in absent
        or (PurePosixPath(path).stem in wanted and path != wanted[PurePosixPath(path).stem].path)
    ]
    changing = {
        name for name, file in wanted.items() if states.manifests.get(file.path) != file.sha256
    }
    names = [*wanted, *(PurePosixPath(path).stem for path in states.manifests)]
    files = plan_files([*unwanted, *wanted.values()])
    restarts = list(_restarts(pods, changing, names, states, mtimes))
    for one in restarts:
        item = one.container
        changes.show(f"pod {item.pod}: {item.container} restarted: {one.why}")
    use = runtime_named(runtime)
    ending = [one for one in restarts if one.rewritten] if leave_first else []
    leaving = _leaving(ending, directory, use) if states.runtime == runtime else None
    ends = [one.pod for one in restarts if one.container.running]
    asked = [pod.ready for pod in pods if pod.ready and pod.name in ends]
    steps = [leaving, files, _script(restarts, states, mtimes, use)]
    return join([_asking(asked), *steps, _waiting(asked)])


def _refuse_hidden(pods: Sequence[StaticPod]) -> None:
    """Refuse links that lead out of what a pod mounts, for its containers cannot follow them."""

    # In the execution it is too late to refuse.
    paths = list(dict.fromkeys(path for pod in pods for path in [*pod.config, *pod.rereads]))
    if not paths or ctx_state.get().is_executing:
        return
    steps = read(LinkSteps, paths=paths)
    for pod in pods:
        volumes = _parsed(pod.manifest)["spec"].get("volumes") or ()
        mounted = [volume["hostPath"]["path"] for volume in volumes if "hostPath" in volume]
        for path in dict.fromkeys([*pod.config, *pod.rereads]):
            # A link that is mounted itself is followed on the host.
            hidden = [] if path in mounted else _outside(steps.get(path, ()), mounted)
            if hidden:
                raise OperationError(
                    f"{path}: it is a link to {hidden[0]}, which {pod.name} does not see, for its "
                    f"pod mounts only {', '.join(mounted)}; move that file into its place"
                )


def _outside(paths: Sequence[str], folders: Sequence[str]) -> list[str]:
    inside = set(map(PurePosixPath, folders))
    return [path for path in paths if inside.isdisjoint(PurePosixPath(path).parents)]


# Whoever was not ready before may need what a later step mends.
_READY = """\
answers() { curl --silent --fail --insecure --noproxy '*' --max-time 5 "$1" >/dev/null 2>&1; }
answers_again() {
  waited=0
  until answers "$1"; do
    if [ "$waited" -ge 120 ]; then
      echo "$1 does not answer 120 s after a restart" >&2
      exit 1
    fi
    sleep 1
    waited=$((waited + 1))
  done
}
"""


def _asking(urls: Sequence[str]) -> Script | None:
    lines = [f"ready{n}=; ! answers {shlex.quote(url)} || ready{n}=1" for n, url in enumerate(urls)]
    return Script(_READY + "\n".join(lines), "ask whether it is ready") if urls else None


def _waiting(urls: Sequence[str]) -> Script | None:
    lines = [
        f'[ -z "$ready{n}" ] || answers_again {shlex.quote(url)}' for n, url in enumerate(urls)
    ]
    return Script("\n".join(lines), "wait until it is ready again") if urls else None


@dataclass(frozen=True)
class _Restart:
    """
    A container that is older than its manifest or than what it reads. It may have ended already.

    + pod: the name of its manifest
    + grace: seconds that it has to stop
    + rewritten: whether its manifest changes, which kubelet notices
    + stale: whether what it reads changes
    + newer: the files of that which have changed already
    """

    pod: str
    container: PodContainer
    grace: int
    rewritten: bool
    stale: bool
    newer: Sequence[str]

    @property
    def why(self) -> str:
        if self.rewritten:
            return "its manifest changes"
        if self.newer:
            return f"{', '.join(self.newer)} changed after it started"
        return "what it reads changes"

    @property
    def words(self) -> str:
        return shlex.join([self.container.pod, self.container.container, self.container.id])


def _restarts(
    pods: Sequence[StaticPod],
    changing: Set[str],
    names: Sequence[str],
    states: StaticPodStates,
    mtimes: Mapping[str, float],
) -> Generator[_Restart, None, None]:
    for pod in pods:
        for container in _containers(pod, names, states):
            newer = [path for path in pod.config if mtimes.get(path, 0) > container.started]
            read_files = pod.config if container.running else [*pod.config, *pod.rereads]
            comes = pod.restart or not pending().isdisjoint(read_files)
            stale = comes or (bool(newer) and container.running)
            rewritten = pod.name in changing and container.running
            if rewritten or (stale and pod.name not in changing):
                yield _Restart(pod.name, container, _grace(pod.manifest), rewritten, stale, newer)


def _leaving(ending: Sequence[_Restart], directory: str, runtime: Runtime) -> Script | None:
    """The script that takes pods away whose manifests change, and waits until kubelet is done."""

    if not ending:
        return None
    pods = dict.fromkeys(one.pod for one in ending)
    ids = {pod: [one.container.id for one in ending if one.pod == pod] for pod in pods}
    # Four times a second.
    patience = 4 * (max(one.grace for one in ending) + 20)
    lines = [runtime.pod_functions.rstrip("\n"), _LEAVE]
    lines += [shlex.join(["leave", f"{directory}/{pod}.yaml", *ids[pod]]) for pod in pods]
    lines.append(f"gone {patience}")
    return Script("\n".join(lines), summary=f"end {', '.join(pods)}")


def _script(
    restarts: Sequence[_Restart],
    states: StaticPodStates,
    mtimes: Mapping[str, float],
    runtime: Runtime,
) -> Script | None:
    """The script that has containers replaced, and waits for the new ones."""

    if not restarts or states.runtime != runtime.name:
        return None
    # A file with a date in the future would make its containers look stale forever.
    future = [path for one in restarts for path in one.newer if mtimes[path] > states.now]
    settled = [one for one in restarts if not one.rewritten]
    ended = [one for one in settled if one.container.running]
    logs = runtime.logs.format(lines=20, id='"$1"')
    lines = [f"{runtime.pod_functions}logs() {{ {logs}; }}", _AGAIN.rstrip("\n")]
    lines += [f"touch -c -- {shlex.join(dict.fromkeys(future))}"] if future else []
    lines += [_replaced(one) for one in restarts if one.rewritten]
    if ended:
        grace = max(one.grace for one in ended)
        lines += [f"end {grace} {' '.join(one.container.id for one in ended)}"]
    lines += [f"again {one.words}" for one in settled]
    what = [f"{one.container.container} of {one.container.pod}" for one in restarts]
    return Script("\n".join(lines), summary=f"restart {', '.join(what)}")


# Seconds in which kubelet notices a changed manifest, even without a notification.
_SEEN = 30


def _replaced(restart: _Restart) -> str:
    """Wait for kubelet, which does nothing if it never saw the old manifest."""

    otherwise = ":"
    if restart.stale:
        otherwise = f"{{ end {restart.grace} {restart.container.id}; again {restart.words}; }}"
    return f"replaced {restart.words} {_SEEN} || {otherwise}"


def _containers(
    pod: StaticPod, names: Sequence[str], states: StaticPodStates
) -> list[PodContainer]:
    """
    The pod's containers; kubelet adds the node's name to the pod's. While a container of an earlier
    manifest still stops, the newest counts. If none runs, such as while the container runtime
    restarts, the one that kubelet will start again counts.
    """

    metadata = _parsed(pod.manifest)["metadata"]
    containers = [item["name"] for item in _parsed(pod.manifest)["spec"]["containers"]]
    name, namespace = metadata.get("name", pod.name), metadata.get("namespace", "default")
    longer = [f"{other}-" for other in names if other.startswith(f"{name}-")]
    own = [
        item
        for item in states.of(name, namespace)
        if item.container in containers and not item.pod.startswith(tuple(longer))
    ]
    found: dict[tuple[str, ...], PodContainer] = {}
    for item in own:
        if item.running:
            found.setdefault((item.pod, item.container), item)
    kept = _parsed(pod.manifest)["spec"].get("restartPolicy", "Always") == "Always"
    running = {item.container for item in found.values()}
    for item in own:
        if kept and item.container not in running:
            found.setdefault((item.container,), item)
    return list(found.values())


def _grace(manifest: str) -> int:
    """Seconds that the pod has to stop."""

    # 30 is Kubernetes' own default.
    return int(_parsed(manifest)["spec"].get("terminationGracePeriodSeconds", 30))


@functools.cache
def _parsed(manifest: str) -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load(manifest))
