"""
What the rest of the project must know of a container runtime: one table that each runtime fills in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


class IncompleteAnswer(ValueError):
    """A runtime answered, and not with all that it was asked for."""


@dataclass(frozen=True)
class PodContainer:
    """
    One container of a pod, running or ended.

    + pod: the pod's name; that of a static pod ends with the node's name
    + started: seconds since the epoch
    + restarts: how often kubelet had started it before
    + exit_code: how it ended, ``None`` while it runs
    """

    id: str
    pod: str
    namespace: str
    container: str
    image: str
    running: bool
    started: float
    restarts: int
    exit_code: int | None = None


# Seconds since the epoch at which a process started, from its ``/proc/PID/stat``.
Started = Callable[[str], float]


@dataclass(frozen=True)
class Runtime:
    """
    A container runtime.

    Commands are shell. Words in braces are filled in by ``str.format``, already quoted. Parsers
    take what the command before them prints, line by line, and raise ``ValueError`` for what they
    do not understand.

    + name: as kubelet and the release table call it
    + unit: of systemd
    + socket: path of the socket that it answers on
    + endpoint: of CRI, for kubelet; empty where kubelet speaks the runtime's own API
    + client: the program that the commands call; without it the runtime counts as missing
    + packages: the part of ``cluster/data/packages.json`` that installs it
    + programs: what a ``runtime_source`` has of it, beside crictl
    + helpers: what it may have too, and a package of the same part brings otherwise
    + image_root: the folder of its images, unless it is told another one
    + cgroup_driver: that it uses unless it is told otherwise
    + container_logs: files that grow for as long as a container runs, below ``{root}``; empty
      where kubelet rotates them
    + images, read_images: every image; ids by name with tag
    + kept_images, read_kept_images: files (a shell pattern) in which it keeps images' names, and
      the ids by name in the content of one, for when it does not answer; empty for an id that is
      not told
    + kept_filter: what such a file is sent through on the host
    + full_name: the name by which it knows an image that archives and people call so
    + load_image: from the archive ``{file}``
    + tag_image: give ``{image}`` the name ``{name}`` too
    + has_image: fails unless it has the image ``{name}``
    + keep_image: have the image ``{name}`` stay where nothing uses it; empty where none goes
    + pull_image: the image ``{name}``
    + pods, read_pods: whatever must be removed for every pod to be gone; the ids
    + remove_pods: those with the ids ``{ids}``
    + containers, read_containers: every container of a pod, running or ended
    + containers_more: shell that makes of what ``containers`` printed, in ``$shown``, what
      ``read_containers`` takes; empty where it takes that
    + pod_functions: shell functions for one container of a pod: ``containers POD CONTAINER …``
      prints ids, ``uid ID`` the pod's UID, ``end SECONDS ID …`` stops, and ``forget POD CONTAINER``
      removes what has ended
    + find_container: ids of the containers named ``{container}``, newest first
    + logs: the last ``{lines}`` lines of the container ``{id}``
    + uses_systemd: succeeds if it leaves control groups to systemd; empty where nobody is asked
    + list_containers: what a person runs to see every container
    + configuration: files that it reads, shell patterns; of folders that may have keys, the others
    """

    name: str
    unit: str
    socket: str
    endpoint: str
    client: str
    packages: str
    cgroup_driver: str
    container_logs: str

    images: str
    read_images: Callable[[Sequence[str]], dict[str, str]]
    load_image: str
    tag_image: str
    has_image: str
    pull_image: str

    pods: str
    read_pods: Callable[[Sequence[str]], list[str]]
    remove_pods: str
    containers: str
    read_containers: Callable[[Sequence[str], Started], list[PodContainer]]
    pod_functions: str
    find_container: str
    logs: str
    list_containers: str

    programs: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()
    image_root: str = ""
    uses_systemd: str = ""
    containers_more: str = ""
    kept_images: str = ""
    kept_filter: str = "cat"
    read_kept_images: Callable[[bytes], Mapping[str, str]] = lambda _: {}
    full_name: Callable[[str], str] = str
    keep_image: str = ""
    configuration: tuple[str, ...] = ()

    @property
    def guard(self) -> str:
        """
        Shell function, such as ``docker_runs``: whether the runtime may be asked. Asking one that
        is stopped would start it where systemd keeps its socket open.
        """

        return f"""\
{self.runs}() {{
case "$(systemctl show --property=LoadState,ActiveState {self.unit} 2>/dev/null)" in
*LoadState=loaded*ActiveState=inactive*|*LoadState=loaded*ActiveState=failed*) return 1 ;;
*LoadState=*) ;;
*)
echo 'systemctl does not tell whether {self.name} runs' >&2
exit 1 ;;
esac
}}
"""

    @property
    def runs(self) -> str:
        """The name of that function."""
        # The shell knows functions by words without dashes.
        return f"{self.unit.removesuffix('.service')}_runs"

    def asked(self, question: str, answer: str = "", down: str = "") -> str:
        """
        Return shell that prints ``runtime missing``, ``runtime down``, or ``runtime NAME`` and an
        answer.

        + question: one command, which fails where the runtime does not answer
        + answer: shell that prints the answer from ``$shown``, what the question printed; by
          default all of it
        + down: shell for a runtime that does not answer, or whose client is missing
        """

        answer = answer or "printf '%s\\n' \"$shown\""
        return f"""\
{self.guard}
if ! command -v {self.client} >/dev/null 2>&1
then
echo 'runtime missing'
{down or ":"}
elif ! {self.runs} || ! shown=$({question} 2>/dev/null)
then
echo 'runtime down'
{down or ":"}
else
echo 'runtime {self.name}'
{answer}
fi"""
