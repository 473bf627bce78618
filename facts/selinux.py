"""
SELinux's labels of files.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable


class Label(NamedTuple):
    """
    The label of a path.

    + now: that it has, such as ``unconfined_u:object_r:user_tmp_t:s0``
    + wanted: that the policy has for it
    """

    now: str
    wanted: str


@dataclass(frozen=True)
class LabelStates(Printable):
    """
    What :class:`Labels` returns.

    + mode: ``enforcing``, ``permissive``, or ``off``
    + rules: types by pattern of paths, which somebody added to the policy on this host
    + wrong: labels that differ from the policy's, by path
    """

    mode: Literal["enforcing", "permissive", "off"] = "off"
    rules: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, Label] = field(default_factory=dict)


class Labels(FactBase[LabelStates]):
    """
    Returns which of the paths have another SELinux label than the policy has for them.

    + paths: absolute paths; one that is not there is passed over
    + whole: folders that are looked at with all that is in them
    + root: of the host's files, but for those

    .. code:: python

        LabelStates(
            mode="enforcing",
            rules={"/srv/kubernetes(/.*)?": "container_share_t"},
            wrong={
                "/usr/local/bin/kubelet": Label(
                    "unconfined_u:object_r:user_tmp_t:s0", "system_u:object_r:kubelet_exec_t:s0"
                )
            },
        )
    """

    default = LabelStates

    @override
    def command(self, paths: Sequence[str] = (), whole: Sequence[str] = (), root: str = "") -> str:
        # matchpathcon has a line for each path, so that silence is no answer.
        return f"""\
if [ -r {root}/sys/fs/selinux/enforce ]; then
echo "mode $(cat {root}/sys/fs/selinux/enforce)"
for file in {root}/etc/selinux/*/contexts/files/file_contexts.local; do
[ ! -r "$file" ] || sed -n 's/^[^#]/rule &/p' "$file"
done
paths=$(for path in {shlex.join(paths)}; do
if [ -e "$path" ]; then printf '%s\\n' "$path"; fi
done
for folder in {shlex.join(whole)}; do
if [ -d "$folder" ]; then find "$folder"; fi
done) || exit 1
[ -n "$paths" ] || exit 0
said=$(printf '%s\\n' "$paths" | xargs -d '\\n' matchpathcon -V 2>&1) || :
told=$(printf '%s\\n' "$said" | grep -c -e '^/.* verified\\.$' -e '^/.* has context .*, should be ')
if [ "$told" != "$(printf '%s\\n' "$paths" | grep -c .)" ]; then
echo "matchpathcon does not tell SELinux's labels: $(printf '%s\\n' "$said" | head -n 1)" >&2
exit 1
fi
printf '%s\\n' "$said"
fi
true"""

    @override
    def process(self, output: Iterable[str]) -> LabelStates:
        rules, wrong, mode = dict[str, str](), dict[str, Label](), "off"
        for line in output:
            word, _, rest = line.partition(" ")
            if word == "mode":
                mode = {"1": "enforcing", "0": "permissive"}.get(rest.strip(), "")
            elif word == "rule" and (found := _RULE.match(rest)):
                rules[found["pattern"]] = found["type"]
            elif (found := _WRONG.fullmatch(line)) and found["wanted"] != _NO_LABEL:
                wrong[found["path"]] = Label(found["now"], found["wanted"])
        if not mode:
            raise FactProcessError("the host does not tell whether SELinux enforces its policy")
        return LabelStates(cast(Literal["enforcing", "permissive", "off"], mode), rules, wrong)


# Of what the policy leaves alone, such as what is below a folder of /mnt.
_NO_LABEL = "<<none>>"
# "PATTERN [-KIND] USER:ROLE:TYPE[:LEVEL]"
_RULE = re.compile(rf"(?P<pattern>\S+)\s+(--\s+|-\w\s+)?(\w+:\w+:)?(?P<type>\w+|{_NO_LABEL})")
_WRONG = re.compile(r"(?P<path>/.*) has context (?P<now>\S+), should be (?P<wanted>\S+)")
