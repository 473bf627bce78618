"""
crictl's configuration: what a person's ``crictl`` asks.
"""

from __future__ import annotations

import re

from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.containerd import CRICTL_CONFIG
from pyinfra_kube.operations.files import File


def crictl_config(before: str | None, endpoint: str) -> File:
    """
    Return crictl.yaml with the endpoint of a runtime; other keys stay.

    + before: its text; ``None`` where there is none
    + endpoint: of CRI
    """

    ours = render(f"{CRICTL_CONFIG[1:]}.j2", endpoint=endpoint)
    lines = [
        line
        for line in (before or "").splitlines()
        if not re.match(r"(runtime|image)-endpoint:", line)
    ]
    told = _endpoints(before or "") == _endpoints(ours)
    whole = before or "" if told else ours + "".join(f"{line}\n" for line in lines)
    return File(CRICTL_CONFIG, whole, keep=before is not None)


def _endpoints(text: str) -> tuple[str, str]:
    """Who is asked for containers, and for images: the same where nobody else is named."""

    found = dict(re.findall(r"^(runtime|image)-endpoint: *(.*?) *$", text, re.M))
    # A package has /var/run, which is a link.
    said = {key: one.strip("\"'").replace("///var/run/", "///run/") for key, one in found.items()}
    runtime = said.get("runtime", "")
    return runtime, said.get("image") or runtime
