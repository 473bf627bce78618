"""What a built host has of what the CIS benchmark asks for: its files, and how its programs run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.cis import FOLDERS, ITEMS, MODES, ROOT, Check, Files, Item, Mode, Says, Setting
from tests.e2e.paths import execute
from tests.lab import Lab

_COMPONENTS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy"),
)
_COMMAND_LINE = "pid=$(pidof {0}) && tr '\\0' '\\n' </proc/$pid/cmdline || true"


@dataclass(frozen=True)
class Seen:
    """
    A host as it was found.

    + settings: component that runs → flag or field → value
    """

    lab: Lab
    host: str
    settings: Mapping[str, Mapping[str, str]]

    def tries(self, check: Check) -> Iterator[bool]:
        """Whether a check passes, for each thing on the host that it is about."""
        if isinstance(check, Setting):
            if check.component in self.settings:
                yield _holds(check, self.settings[check.component].get(check.name, check.default))
        elif isinstance(check, Files):
            look = f"stat --format='%a %U:%G' {check.pattern} 2>/dev/null || true"
            for line in execute(self.lab, self.host, look):
                mode, owner = line.split()
                no_more = int(mode, 8) & ~int(check.mode, 8) == 0
                yield no_more and check.owner in ("", owner)
        else:
            assert isinstance(check, Says)
            lines = execute(self.lab, self.host, f"cat {check.path} 2>/dev/null || true")
            if lines:
                yield any(re.search(check.pattern, line) for line in lines)


# What systemd thinks of a service: 10 for one that may do everything.
_EXPOSURE = 4.0


def other_than_said(lab: Lab) -> list[str]:
    """The numbers of items for which the hosts are not as the table says."""
    seen = [look(lab, host) for host in lab.hosts]
    return [item.number for item in ITEMS if not _as_said(seen, item)]


def _as_said(seen: list[Seen], item: Item) -> bool:
    found = [passed for one in seen for check in item.checks for passed in one.tries(check)]
    if item.verdict == "not applicable":
        return not found
    return bool(found) and all(found) == (item.verdict == "held")


def see_modes(lab: Lab) -> None:
    """Each file in the folders of the table of modes has a row, and the mode that it says."""
    for host in lab.hosts:
        find = f"find {' '.join(FOLDERS)} ! -type l -printf '%m %u:%g %p\\n' 2>/dev/null || true"
        found = [line.split(maxsplit=2) for line in execute(lab, host, find)]
        assert found
        for mode, owner, path in found:
            assert (mode, owner) == (_mode(path).mode, ROOT), (host, path)


def _mode(path: str) -> Mode:
    fits = [
        row for row in MODES if re.fullmatch(re.escape(row.pattern).replace(r"\*", "[^/]*"), path)
    ]
    assert fits, f"{path} has no row"
    return fits[0]


def see_unit(lab: Lab, part: str) -> None:
    """A unit may do little, runs, and was denied nothing."""
    running = [
        host for host in lab.hosts if lab.exec(host, f"systemctl is-active {part}").returncode == 0
    ]
    assert running
    for host in running:
        said = execute(lab, host, f"systemd-analyze security --no-pager {part}.service")
        assert float(said[-1].split(":")[1].split()[0]) <= _EXPOSURE
        # A host of the lab may not lower a score itself.
        denied = "grep -v oom_score_adj | grep -iE 'denied|not permitted|read-only'"
        log = f"journalctl --unit={part} --no-pager"
        assert lab.exec(host, f"{log} | {denied}").stdout == ""


def look(lab: Lab, host: str) -> Seen:
    """Read how a host's programs run: their command lines, and the files that these name."""
    settings = {}
    for component in _COMPONENTS:
        words = execute(lab, host, _COMMAND_LINE.format(component))
        if words:
            flags = dict(_flag(word) for word in words[1:] if word.startswith("--"))
            settings[component] = {**_fields(lab, host, flags.get("config")), **flags}
    return Seen(lab, host, settings)


def _flag(word: str) -> tuple[str, str]:
    name, _, value = word.removeprefix("--").partition("=")
    return name, value


def _fields(lab: Lab, host: str, path: str | None) -> dict[str, str]:
    if not path:
        return {}
    return dict(_flat(yaml.safe_load("\n".join(execute(lab, host, f"cat {path}")))))


def _flat(fields: Mapping[str, Any], parents: str = "") -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{parents}{name}.")
        elif isinstance(value, list):
            yield f"{parents}{name}", ",".join(map(str, value))
        else:
            yield f"{parents}{name}", str(value).lower() if isinstance(value, bool) else str(value)


def _holds(check: Setting, value: str | None) -> bool:
    if check.must == "not be set":
        return value is None
    if value is None:
        return check.must in ("lacks", "not be")
    words = value.split(",")
    return {
        "be set": bool(value),
        "be": value == check.value,
        "not be": value != check.value,
        "has": check.value in words,
        "lacks": check.value not in words,
        "within": set(words) <= set(check.value.split(",")),
        "at least": value.isdigit() and int(value) >= int(check.value or 0),
    }[check.must]
