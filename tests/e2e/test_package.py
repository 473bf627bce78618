"""The wheel in an environment of its own, used from anywhere but here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.paths import REPOSITORY, execute
from tests.lab import Lab
from tests.lab.lab import HOSTS
from tests.lab.places import KNOWN_HOSTS

NODES = HOSTS[1:]
RELEASE = "1.20"
ADDRESSES = {name: f"10.10.{number}.1/24" for number, name in enumerate(NODES)}

TEMPLATE = """\
from pyinfra_kube.operations import bridge, static_pods
import pyinfra_kube.deploys.scratch

print(bridge.__file__)
print(static_pods.manifest("kube-scheduler", image="one", flags=["--two"]))
"""

# A person's own deploy, with one operation of ours.
DEPLOY = """\
from pyinfra.context import host
from pyinfra_kube.operations import bridge

bridge.bridge(name="Make a bridge", bridge="br-deploy", address=host.data.bridge_address)
"""

# As docs/library.md has it, with other arguments on each host.
API = """\
import json
from pathlib import Path

from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops

from pyinfra_kube.operations import bridge, sysctl

hosts = json.loads(Path("hosts.json").read_text())


def phase(operation, arguments):
    state = State(Inventory((list(hosts.items()), {})), Config())
    connect_all(state)
    made = {}
    for host in state.inventory:
        made |= add_op(state, operation, host=host, **arguments(host))
    run_ops(state)
    disconnect_all(state)
    return [made[host].did_change() for host in state.inventory]


def bridge_of(host):
    return {"name": "Make a bridge", "bridge": "br-api", "address": host.data.bridge_address}


def settings_of(host):
    return {"name": "Forward packets", "settings": {"net.ipv4.ip_forward": 1}}


changed = [
    phase(operation, arguments)
    for _ in range(2)
    for operation, arguments in ((bridge.bridge, bridge_of), (sysctl.sysctls, settings_of))
]
print(json.dumps(changed))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somewhere else."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with nothing but the wheel and what it asks for."""
    made = tmp_path_factory.mktemp("package")
    # Of a copy, for a build leaves its own files.
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "tests", "inventories")
    shutil.copytree(REPOSITORY, made / "source", ignore=ignored)
    run(sys.executable, "-m", "venv", made / "venv", folder=made)
    pip = made / "venv/bin/pip"
    quiet = ("--quiet", "--disable-pip-version-check")
    run(pip, "wheel", *quiet, "--no-deps", "--wheel-dir", made, made / "source", folder=made)
    (wheel,) = made.glob("pyinfra_kube-*.whl")
    run(pip, "install", *quiet, wheel, folder=made)
    return made / "venv/bin"


def test_operations_and_templates(binaries: Path, folder: Path) -> None:
    said = run(binaries / "python", "-c", TEMPLATE, folder=folder).splitlines()
    assert Path(said[0]).is_relative_to(binaries.parent)
    assert {"    image: one", "    - --two"} <= set(said)


def test_the_wheel_has_all_and_nothing_else(binaries: Path) -> None:
    (package,) = binaries.parent.glob("lib/*/site-packages/pyinfra_kube")
    for part in ("cluster", "deploys", "facts", "operations", "templates"):
        assert files_of(package / part) == files_of(REPOSITORY / part), part
    assert not list(package.parent.glob("tests"))


@pytest.mark.lab
def test_a_deploy_of_ones_own(lab: Lab, binaries: Path, folder: Path) -> None:
    (folder / "deploy.py").write_text(DEPLOY)
    (folder / "inventory.py").write_text(f"nodes = {list(hosts_of(lab).items())!r}\n")
    words = (binaries / "pyinfra", "inventory.py", "deploy.py", "-y", "--json")
    for changed in (2, 0):
        results = json.loads(run(*words, folder=folder))["results"]
        assert results["totals"]["success"] == changed
    assert addresses_of(lab, "br-deploy") == ADDRESSES


@pytest.mark.lab
def test_without_the_command_line(lab: Lab, binaries: Path, folder: Path) -> None:
    (folder / "hosts.json").write_text(json.dumps(hosts_of(lab)))
    (folder / "library.py").write_text(API)
    changed = json.loads(run(binaries / "python", "library.py", folder=folder))
    assert changed == [[True, True], [True, True], [False, False], [False, False]]
    assert addresses_of(lab, "br-api") == ADDRESSES


def run(*words: str | Path, folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-4000:])
    return done.stdout


def files_of(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if "__pycache__" not in path.parts}


def hosts_of(lab: Lab) -> dict[str, dict[str, object]]:
    """The nodes, with the data that pyinfra needs to reach them."""
    return {
        name: {
            "ssh_hostname": lab.hosts[name].ip,
            "ssh_key": lab.hosts[name].ssh_key,
            "ssh_user": "root",
            "ssh_known_hosts_file": str(KNOWN_HOSTS),
            "ssh_strict_host_key_checking": "yes",
            "bridge_address": address,
        }
        for name, address in ADDRESSES.items()
    }


def addresses_of(lab: Lab, link: str) -> dict[str, str]:
    show = f"ip -o -4 address show dev {link}"
    return {name: execute(lab, name, show)[0].split()[3] for name in NODES}
