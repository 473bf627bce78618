"""The documents name what is there, and the whole project speaks one language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = [
    "cluster",
    "ansible_2016",
    "engine",
    "facts",
    "checks",
    "operations",
    "templates",
    "deploys",
]
FOLDERS = [*PACKAGES, "docs", "inventories", "tests", "package"]
GUIDE = (REPOSITORY / "docs/guide.md").read_text()
PAGES = [
    *(
        REPOSITORY / name
        for name in ("README.md", "CONTRIBUTING.md", "examples/rendered/README.md")
    ),
    *REPOSITORY.glob("docs/*.md"),
]

_CODE = r"[A-Z][1-9]"
# "(N5)", "(C1, C3, C7)", "(P1 to P6)"; a line may end within.
_CODES = re.compile(rf"\({_CODE}(?:(?:,|–| to| and)\s*{_CODE})*\)")

# A word that is not ours → the one that is.
WORDS = {
    r"masters?": "control plane",
    r"master_ip": "control_plane_endpoint",
    r"cluster_subnet": "cluster_cidr",
    r"service_cluster_ip_range": "service_cidr",
    r"node(_x)?_pod_cidr": "pod_cidr",
    r"observ\w+": "gathered host facts",
    r"carried": "current",
    r"remember\w*": "recorded",
    r"address books?": "allocations",
    r"keepers?": "the host on which a step runs once",
    r"announc\w+": "pending changes",
    r"rehears\w*": "discovery pass",
    r"(fore(see|told)|read[ _]ahead|catch up)\w*": "prefetch",
    r"last words": "recent log lines",
}
_WORDS = re.compile(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)

# `master` where it is the world's word: names of hosts and packages, flags, a group, a link's.
_OF_THE_WORLD = re.compile(
    r"(kube|kubernetes|fed)-master|--master|system:masters|master-service|[\"']master[\"']"
    r"|ip link set \S+ master|!/ master /|\.master\b|KUBE_MASTER",
    re.IGNORECASE,
)
# Where the older words are themselves the subject.
SPEAK_OF_OLDER_WORDS = {
    "cluster/spec/aliases.py": "the table of them",
    "docs/settings.md": "the same table",
    "CHANGELOG.md": "what changed",
    "facts/bridge.py": "a link's master",
    "facts/reach.py": "",
    "ansible_2016/inventory.py": "the groups of Ansible's inventories",
    "inventories/ansible.py": "",
    "tests/e2e/test_fedora.py": "an inventory of Ansible",
    "tests/e2e/test_previous_version.py": "an inventory of the previous version",
    "tests/lab/rpms": "Fedora's packages",
    "tests/unit/fixtures/ansible": "inventories of 2016",
    "tests/unit/test_ansible_inventory.py": "",
    "tests/unit/test_docs.py": "this table",
    "tests/unit/test_endpoint.py": "an inventory in each language",
    "tests/unit/test_flannel.py": "a link's master",
    "tests/unit/test_host_facts.py": "",
    "tests/unit/test_plan.py": "an inventory in the guide's words",
    "tests/unit/test_spec.py": "",
}


def _texts() -> Iterator[tuple[str, str]]:
    """Every file that people read: its path and text."""
    kinds = {".py", ".md", ".j2", ".sh", ".toml", ".svg", ".spec"}
    files = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*")]
    for path in [*files, *REPOSITORY.glob("*")]:
        if path.is_file() and (path.suffix in kinds or path.name == "Makefile"):
            yield path.relative_to(REPOSITORY).as_posix(), path.read_text()


def test_every_word_is_ours() -> None:
    found = [
        f"{path}:{number}: {word.group()}; write {_instead_of(word.group())}"
        for path, text in _texts()
        if not path.startswith(tuple(SPEAK_OF_OLDER_WORDS))
        for number, line in enumerate(text.splitlines(), 1)
        for word in _WORDS.finditer(_OF_THE_WORLD.sub("", line))
    ]
    assert not found, "\n".join(found)


def _instead_of(word: str) -> str:
    return next(new for old, new in WORDS.items() if re.fullmatch(old, word, re.IGNORECASE))


def test_codes_of_the_guide_stand_in_the_guide_only() -> None:
    coded = [
        path for path, text in _texts() if path.startswith(tuple(PACKAGES)) and _CODES.search(text)
    ]
    assert coded == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_files_that_are_there(page: Path) -> None:
    text = page.read_text()
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
    folders = "|".join(["examples", *FOLDERS])
    named = [REPOSITORY / name for name in re.findall(rf"`((?:{folders})/[a-z_0-9./]+)`", text)]
    assert [str(path) for path in [*links, *named] if not path.exists()] == []


def test_the_guide_names_a_file_for_each_subject() -> None:
    assert re.findall(r"`([a-z_0-9]+/[a-z_/]+\.py)`", GUIDE)
