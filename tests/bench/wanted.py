"""
What our deploy wants of hosts, as variables of hosts for the playbook: taken from the deploy itself
as it is prepared, so that both sides manage the same things.

    python -m tests.bench.wanted REPORT FOLDER
"""

from __future__ import annotations

import json
import pickle
import shlex
import sys
from pathlib import Path
from typing import Any

from pyinfra_kube.operations.files import File
from tests.e2e.promises.driver import Record, Report

_WANTS = "/multi-user.target.wants/"
_MANIFESTS = "/etc/kubernetes/manifests/"
_PLAYBOOK = Path(__file__).with_name("playbook.yml")

# Folders that every host has. Others are made by our operations as they write what lies in them.
_THERE = {
    *("/etc/systemd/system", "/etc/sysctl.d", "/etc/modules-load.d", "/etc/logrotate.d"),
    *("/usr/local/bin", "/usr/local/sbin"),
}

# Operations whose paths the playbook has tasks of its own for.
_ELSEWHERE = ("Set the hosts' names in /etc/hosts",)


def main(report: Path, folder: Path) -> None:
    """Write a folder with the playbook, variables of each host, and the files that it copies."""

    # The module of the report names itself otherwise when it is executed.
    read: Report = pickle.loads(report.read_bytes())
    (folder / "host_vars").mkdir(parents=True, exist_ok=True)
    (folder / "playbook.yml").write_text(_PLAYBOOK.read_text())
    for host in sorted({record.host for record in read.records}):
        records = [record for record in read.records if record.host == host]
        files = {
            file.path: (name.split(" | ")[1], file)
            for owner, name, file in read.files
            if owner == host and not name.endswith(_ELSEWHERE)
        }
        variables = {**_of_files(folder / "files" / host, files), **_of_records(records)}
        # Every host has a line of its own name.
        variables["names"] = {n: a for n, a in variables["names"].items() if n != host}
        variables["directories"] += [
            {"path": path, "mode": "0755", "group": "root"}
            for path in {one["path"].rpartition("/")[0] for one in variables["binaries"]} - _THERE
        ]
        (folder / "host_vars" / f"{host}.json").write_text(json.dumps(variables, indent=1))


def _of_files(folder: Path, files: dict[str, tuple[str, File]]) -> dict[str, Any]:
    """Directories, links, units, and by phase files, with their content written down here."""

    found: dict[str, Any] = {"directories": [], "links": [], "boot_units": []}
    found |= {"files": {}, "manifests": []}
    for phase, file in files.values():
        owned = {"path": file.path, "mode": f"0{file.mode}", "group": file.group}
        if file.kind == "directory":
            found["directories"].append(owned)
        elif file.kind == "link" and _WANTS in file.path:
            found["boot_units"].append(file.path.rpartition("/")[2])
        elif file.kind == "link":
            found["links"].append({"path": file.path, "to": file.target})
        elif file.kind == "file":
            source = folder / file.path.lstrip("/")
            source.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            source.write_bytes(file.data)
            manifest = file.path.startswith(_MANIFESTS)
            group = found["manifests"] if manifest else found["files"].setdefault(phase, [])
            group.append({**owned, "from": str(source)})
    parents = {path.rpartition("/")[0] for path, (_, file) in files.items() if file.kind == "file"}
    for path in sorted(parents - _THERE - {one["path"] for one in found["directories"]}):
        found["directories"].append({"path": path, "mode": "0755", "group": "root"})
    return found


# How a runtime is asked for its images, and given them.
_RUNTIMES = {
    "docker": {
        "unit": "docker.service",
        "works": "docker info",
        "held": "docker images | awk 'NR > 1 { print $1 \":\" $2 }'",
        "load": "docker load --input",
        "has": "docker inspect --type=image",
    },
    "containerd": {
        "unit": "containerd.service",
        "works": "ctr version",
        "held": "ctr --namespace=k8s.io images list --quiet",
        "load": "ctr --namespace=k8s.io images import",
        "has": "crictl inspecti",
    },
}


def _runtime(records: list[Record]) -> dict[str, Any]:
    name = next(r.arguments["runtime"] for r in records if r.operation == "images.images")
    packages = [
        package
        for record in records
        if record.operation == "packages.packages" and " | Container runtime | " in record.name
        for package in record.arguments["packages"]
    ]
    return {**_RUNTIMES[name], "packages": packages}


def _of_records(records: list[Record]) -> dict[str, Any]:
    by_name = {record.name.partition(" | ")[2]: record.arguments for record in records}
    by_operation: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_operation.setdefault(record.operation, []).append(record.arguments)

    def one(operation: str) -> dict[str, Any]:
        return by_operation.get(operation, [{}])[0]

    return {
        "tools": by_name["Host preparation | Install the tools of a node"]["packages"],
        "runtime": _runtime(records),
        "locked": one("packages.locked").get("packages", []),
        "modules": one("sysctl.sysctls")["modules"],
        "settings": one("sysctl.sysctls")["settings"],
        "settings_file": one("sysctl.sysctls")["file"],
        "names": one("hosts.hosts")["entries"],
        "bridge": one("bridge.bridge"),
        "routes": [vars(route) for route in one("routes.routes")["routes"]],
        "protocol": one("routes.routes")["protocol"],
        "rules": [
            rule
            for arguments in by_operation.get("iptables.rules", [])
            for rule in _rules(arguments)
        ],
        "images": [
            {"name": name, "archive": archive}
            for arguments in by_operation["images.images"]
            for name, archive in arguments["files"].items()
        ],
        "binaries": [
            {"path": binary.path, "from": binary.source, "mode": f"0{binary.mode}"}
            for arguments in by_operation["binaries.binaries"]
            for binary in arguments["binaries"]
        ],
        "services": [
            unit.name
            for arguments in by_operation["services.services"]
            for unit in arguments["units"]
        ],
        "nodes": [vars(node) for node in one("nodes.node_objects").get("nodes", [])],
        "labels": [
            {"node": node.name, "key": key, "value": value}
            for node in one("nodes.node_objects").get("nodes", [])
            for key, value in {**node.labels, **node.registered_with}.items()
        ],
        "objects": [
            {**vars(manifest), "kubeconfig": getattr(arguments["setter"], "text", "")}
            for arguments in by_operation.get("objects.objects", [])
            for manifest in arguments["manifests"]
        ],
        "kubectl": _kubectl(one("nodes.node_objects")),
        "checks": {
            record.name.rpartition(" | ")[2]: [
                *(f"{name}=$({text})" for name, text in (record.arguments["given"] or {}).items()),
                *(check.command for check in record.arguments["checks"]),
            ]
            for record in records
            if record.operation == "verify.verified"
        },
    }


def _rules(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Rules as Ansible's iptables module takes them; what it has no word for, as they are."""

    found = []
    words_of = {"-s": "source", "-d": "destination", "-p": "protocol", "--dport": "port"}
    for text in arguments["rules"]:
        action, chain, *words = shlex.split(text)
        rule = {
            "table": arguments["table"],
            "chain": chain,
            "action": "insert" if action == "-I" else "append",
            "comment": arguments["owner"],
        }
        if words[:1] == ["!"] or "-m" in words:
            rule["raw"] = f"{shlex.join(words[:3])} -m comment --comment {rule['comment']} "
            rule["raw"] += shlex.join(words[3:])
        else:
            pairs = dict(zip(words[::2], words[1::2], strict=True))
            rule |= {name: pairs[word] for word, name in words_of.items() if word in pairs}
            rule["jump"] = pairs["-j"]
        found.append(rule)
    return found


def _kubectl(arguments: dict[str, Any]) -> str:
    if not arguments:
        return ""
    return f"{arguments['kubectl']} --kubeconfig={arguments['kubeconfig']}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
