"""Managed files where somebody has put a link, a mount or a folder, or where nothing can be set."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyinfra.api import FactBase, OperationError

from pyinfra_kube.operations.environment import EnvironmentFile, environment_files
from pyinfra_kube.operations.files import File, files
from tests.unit.harness import answers, fake_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")

# What is made of the path $p, in the folder $f, with $o for a place elsewhere.
PLACES = {
    "nothing": "",
    "a file": "echo old > $p",
    "an absolute link": "echo old > $o/x; ln -s $o/x $p",
    "a relative link": "echo old > $o/x; ln -s ../../other/x $p",
    "a link to a link": "echo old > $o/x; ln -s x $o/y; ln -s $o/y $p",
    "a link to a file that is yet to come": "ln -s $o/new $p",
    "a link into no folder": "ln -s $o/none/x $p",
    "a link to itself": "ln -s $p $p",
    "two links in a circle": "ln -s $p $o/x; ln -s $o/x $p",
    "a link to a folder": "mkdir $o/d; echo theirs > $o/d/x; ln -s $o/d $p",
    "a link to /dev/null": "ln -s /dev/null $p",
    "a link into a read-only place": "mount -t tmpfs none $o; echo old > $o/x; ln -s $o/x $p; "
    "mount -o remount,ro $o",
    "a bind mount": "echo old > $o/x; touch $p; mount --bind $o/x $p",
    "a link to a bind mount": "echo old > $o/x; touch $o/y; mount --bind $o/x $o/y; ln -s $o/y $p",
    "a hard link": "echo old > $o/x; ln $o/x $p",
    "an immutable file": "echo old > $p; chattr +i $p || true",
    "a full folder": "mkdir $p; echo theirs > $p/x",
    "an empty folder": "mkdir $p",
    "a file that another user owns": "echo old > $p; chown 7:7 $p; chmod 664 $p",
}
FOLDERS = {
    "a folder": "mkdir -p $f",
    "no folder": "mkdir -p $f; rmdir $f",
    "a link to a folder": "mkdir -p $r/real; ln -s $r/real $f",
    "a relative link": "mkdir -p $r/real; ln -s ../real $f",
    "a link to no folder": "ln -s $r/none $f",
    "a link to itself": "ln -s $f $f",
    "a file": "echo theirs > $f",
    "a read-only place": "mkdir $f; mount -t tmpfs none $f; LATER; mount -o remount,ro $f",
    "an immutable folder": "mkdir $f; LATER; chattr +i $f || true",
    "a bind mount": "mkdir -p $f $r/real; mount --bind $r/real $f",
}
LINKS = {place for place in PLACES if "link" in place} - {"a hard link"}
MARK = "theirs"


class Namespace:
    """A place with mounts of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["unshare", "--mount", "sleep", "infinity"])
        subprocess.run(["sleep", "0.2"], check=True)

    def run(self, command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        words = ["nsenter", "--mount", f"--target={self.process.pid}", "sh", "-c", command]
        return subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)

    def fact(self, fact: type[FactBase[Any]], **arguments: Any) -> Any:
        instance = fact()
        command: Any = instance.command
        said = self.run(command(**arguments)).stdout.splitlines()
        return instance.process(said) if said else instance.default()


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.process.kill()
    made.process.wait()


_numbers = itertools.count()


@given(
    st.sampled_from(sorted(PLACES)),
    st.sampled_from(sorted(FOLDERS)),
    st.sampled_from(["file", "secret", "keep", "environment"]),
)
@example("a link to a file that is yet to come", "a folder", "environment")
@example("an absolute link", "a folder", "environment")
@example("a bind mount", "a folder", "file")
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_it_works_and_keeps_the_link_or_is_refused_before_any_change(
    namespace: Namespace, tmp_path: Path, place: str, folder: str, kind: str
) -> None:
    root = tmp_path / str(next(_numbers))
    path = root / "etc/app/conf"
    made = FOLDERS[folder] + "; LATER" * ("LATER" not in FOLDERS[folder])
    words = f"r={root}; f={path.parent.parent}/app; p={path}; o={root}/other; mkdir -p $r/etc $o; "
    # Some places are none in some folders.
    namespace.run(words + made.replace("LATER", PLACES[place] or ":"))
    before, link = look(namespace, root), target(namespace, path)
    refused = ""
    try:
        run(namespace, path, kind)
    except OperationError as error:
        refused = str(error)
    finally:
        after = look(namespace, root)
        namespace.run(f"chattr -R -i {root}")
    if refused:
        assert refused.startswith(f"{path}: ")
        assert ";" in refused or "?" in refused
        assert after == before
        return
    said = namespace.run(f"tail -n 1 {path}; find {root} -name '*pyinfra-kube'").stdout
    assert said in ("new\n", 'KUBE_PROXY_ARGS="new"\n')
    if link and place != "a link to /dev/null":
        assert target(namespace, path) == link
    assert before.count(MARK) == after.count(MARK)
    if kind == "keep" and "old" in before and place == "a file that another user owns":
        assert namespace.run(f"stat -c '%u %a' {path}").stdout == "7 664\n"
    assert run(namespace, path, kind) == 0


def look(namespace: Namespace, root: Path) -> str:
    """All that is there, and what it says."""

    command = f"find {root} -printf '%p %y %m %u %l %i\\n'; grep -r '' {root}"
    return "\n".join(sorted(namespace.run(command).stdout.splitlines()))


def target(namespace: Namespace, path: Path) -> str:
    return namespace.run(f"readlink {path}").stdout


def run(namespace: Namespace, path: Path, kind: str) -> int:
    """Plan and run; return how many commands it had."""

    with fake_host({}) as (host, _, _):
        answers(host, namespace.fact)
        operation: Any = environment_files if kind == "environment" else files
        commands = list(operation._inner(files=[wanted(str(path), kind)]))
        for command in commands:
            done = namespace.run("sh -s", command.connector_arguments["_stdin"])
            assert done.returncode == 0, (done.stdout, done.stderr)
    return len(commands)


def wanted(path: str, kind: str) -> Any:
    if kind == "environment":
        return EnvironmentFile(path, {"KUBE_PROXY_ARGS": "new"}, template="etc/kubernetes/proxy.j2")
    secret = kind == "secret"
    return File(path, "new\n", keep=kind == "keep", secret=secret, mode="600" if secret else "644")
