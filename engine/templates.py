"""
Files of a host from their templates, which are laid out below ``templates/`` as on the host.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(name: str, **values: Any) -> str:
    """
    Return a template's text with values filled in. A missing value is an error.

    + name: path below ``templates/``, for example ``etc/systemd/system/kubelet.service.j2``
    + values: the values that the template names

    **Example:**

    .. code:: python

        render("etc/logrotate.d/kubernetes.j2", paths=["/var/log/kube*.log"], size="100M", keep=5)
    """

    return _environment().get_template(name).render(**values)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pyinfra_kube.templates", ""),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {"yaml": _yaml, "sh": shlex.quote, "systemd": _systemd}
    return environment


def _yaml(value: object) -> str:
    """A YAML scalar, quoted where it would not be read as this string."""

    if isinstance(value, str):
        plain = re.fullmatch(r"(--[a-z][a-z0-9-]*=)?[A-Za-z/][A-Za-z0-9_./:=,@+*-]*", value)
        flag = re.fullmatch(r"--[A-Za-z0-9_./:=,@+*-]+", value)
        reserved = value.lower() in ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
        if (plain or flag) and not reserved and not value.endswith(":"):
            return value
    return json.dumps(value, ensure_ascii=False)


def _systemd(word: str) -> str:
    """One word of an ``ExecStart=`` line."""

    word = word.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{word}"' if re.search(r"[\s;'\"\\]", word) else word
