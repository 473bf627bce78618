"""
Manage the rules that kube-router left of NetworkPolicies.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import Files

MARKER = "/etc/kubernetes/network-policies"
"""The file that says that a host's rules of NetworkPolicies are ours."""

# A chain that is named in what iptables-restore reads is emptied first: all goes at once.
_REMOVE = """\
tries=0
while grep -qsx kube-router /proc/[0-9]*/comm; do
  tries=$((tries + 1))
  [ "$tries" -le 60 ] || { echo 'kube-router still runs on this host' >&2; exit 1; }
  sleep 1
done
gone() {
  awk '
    /^:(KUBE-ROUTER-(INPUT|FORWARD|OUTPUT)|KUBE-POD-FW-|KUBE-NWPLCY-)/ {
      sub(/^:/, ""); print ":" $1 " - [0:0]"; chains[++count] = $1
    }
    /^-A / && $2 !~ /^KUBE-(ROUTER|POD-FW|NWPLCY)-/ && / -[jg] KUBE-ROUTER-(INPUT|FORWARD|OUTPUT)/ {
      sub(/^-A/, "-D"); rules[++ruled] = $0
    }
    END {
      for (i = 1; i <= ruled; i++) print rules[i]
      for (i = 1; i <= count; i++) print "-X " chains[i]
    }'
}
for tables in iptables ip6tables; do
  command -v "$tables-save" >/dev/null 2>&1 || continue
  lines=$("$tables-save" -t filter 2>/dev/null | gone)
  [ -z "$lines" ] || printf '*filter\\n%s\\nCOMMIT\\n' "$lines" | "$tables-restore" -w --noflush
done
if command -v ipset >/dev/null 2>&1; then
  for name in $(ipset list -n | grep -E '^(inet6:)?KUBE-(SRC|DST)-' || :); do
    ipset destroy "$name"
  done
fi
"""


@operation()
def policy_rules_absent(marker: str = MARKER) -> Generator[StringCommand, None, None]:
    """
    Remove kube-router's chains of iptables and its sets of ipset, where a file says that they are
    ours. Stop kube-router first: this waits for its end. Without ipset's program its sets stay,
    which do nothing, until the host starts anew.

    + marker: that file, which goes last

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import policy_rules

        policy_rules.policy_rules_absent(name="Remove the rules of NetworkPolicies")
    """

    if marker not in read(Files, paths=[marker], digest=False):
        ctx_host.get().noop("there are no rules of ours")
        return
    changes.show("rules of kube-router: removed")
    yield Script(f"{_REMOVE}rm -f {shlex.quote(marker)}", "remove kube-router's rules")
