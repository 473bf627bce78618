"""`python -m tests.lab`: the lab by hand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.lab import go_build, kubernetes, state
from tests.lab.families import FAMILIES
from tests.lab.lab import HOSTS, Lab, down
from tests.lab.machine import LabError, require_root
from tests.lab.places import KNOWN_HOSTS
from tests.lab.roots import RUNTIMES


def main() -> int:
    arguments = _parser().parse_args()
    try:
        require_root()
        result = arguments.do(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, text: str, do: Callable[[argparse.Namespace], int | None]
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(do=do)
        return added

    def kind_of_host(added: argparse.ArgumentParser) -> None:
        added.add_argument("--family", choices=FAMILIES, default="debian")
        added.add_argument("--runtime", choices=RUNTIMES, default="", help="installed already")

    up = command("up", "bring the lab up", _up)
    up.add_argument("names", nargs="*", default=HOSTS)
    up.add_argument("--hosts-only", action="store_true", help="without a Kubernetes to install")
    kind_of_host(up)
    add = command("add", "add blank hosts", _add)
    add.add_argument("names", nargs="+")
    kind_of_host(add)

    command("down", "take the lab away", lambda _: down())
    command("status", "say what is up", _status)
    made = command("kubernetes", "make the Kubernetes to install, and say where it is", _kubernetes)
    provide = command("provide", "have another Kubernetes to install", _provide)
    for added in (made, provide):
        added.add_argument("release", nargs="?", default="", help="such as 1.20")
    build = command("build", "build parts from Go modules, and say where they are", _build)
    build.add_argument("parts", nargs="+", metavar="PART", choices=go_build.parts())
    reset = command("reset", "make hosts blank again", _reset)
    reset.add_argument("names", nargs="*")
    run = command("exec", "run a command in a host", _exec)
    run.add_argument("name")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")

    for name, text, do in (
        ("remove", "remove a host", Lab.remove),
        ("reboot", "reboot a host", Lab.reboot),
        ("power-off", "pull a host's plug", Lab.power_off),
        ("start", "power a host on", Lab.start),
        ("cut", "pull a host's network cable", Lab.cut),
        ("mend", "plug a host's network cable in", Lab.mend),
        ("fill-disk", "leave no free block on a host's disk", Lab.fill_disk),
        ("free-disk", "take that back", Lab.free_disk),
    ):
        command(name, text, _on_one_host(do)).add_argument("name")
    return parser


def _on_one_host(do: Callable[[Lab, str], None]) -> Callable[[argparse.Namespace], None]:
    return lambda arguments: do(Lab.load(), arguments.name)


def _up(arguments: argparse.Namespace) -> None:
    if not _is_up(arguments):
        Lab.up(
            arguments.names,
            family=arguments.family,
            runtime=arguments.runtime,
            release=None if arguments.hosts_only else "",
        )
    _status(arguments)


def _is_up(arguments: argparse.Namespace) -> bool:
    """Whether a lab is up already, and it is the very one that is asked for."""
    found = state.load()
    if not found:
        return False
    there = {(host.name, host.family, host.runtime) for host in found.hosts.values()}
    asked = {(name, arguments.family, arguments.runtime) for name in arguments.names}
    release = None if arguments.hosts_only else str(kubernetes.release())
    return (there, found.kubernetes) == (asked, release)


def _reset(arguments: argparse.Namespace) -> None:
    Lab.load().reset(arguments.names or None)


def _add(arguments: argparse.Namespace) -> None:
    Lab.load().add(*arguments.names, family=arguments.family, runtime=arguments.runtime)


def _status(_: argparse.Namespace) -> None:
    lab = Lab.load()
    for name, record in lab.hosts.items():
        state = "on" if lab.host(name).processes() else "off"
        runtime = f"with {record.runtime}" if record.runtime else ""
        print(f"{name:<16} {record.ip:<16} {state:<4} {record.family} {runtime}".rstrip())
    print(f"Outside of the cluster: http://{lab.network.outside_address}/")
    if lab.kubernetes:
        version = (lab.kubernetes / "version").read_text().strip()
        print(f"Kubernetes {version}: {lab.kubernetes}")
    some = next(iter(lab.hosts.values()), None)
    if some:
        known = f"-o UserKnownHostsFile={KNOWN_HOSTS}"
        print(f"By hand: ssh -i {some.ssh_key} {known} root@{some.ip}")


def _kubernetes(arguments: argparse.Namespace) -> None:
    with state.held():
        print(kubernetes.release(arguments.release))


def _provide(arguments: argparse.Namespace) -> None:
    Lab.load().provide(arguments.release)
    _status(arguments)


def _build(arguments: argparse.Namespace) -> None:
    with go_build.together():
        for part in arguments.parts:
            print(go_build.built(part), flush=True)


def _exec(arguments: argparse.Namespace) -> int:
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    done = Lab.load().exec(arguments.name, words[0] if len(words) == 1 else words)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
