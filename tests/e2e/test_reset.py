"""What was there before a cluster comes back when it is reset, and a cluster can be built again."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.e2e.paths import REPOSITORY, Site, execute, succeeded
from tests.lab import Lab, down, held

pytestmark = pytest.mark.lab

RELEASE = "1.37"
HOST = "kube-master"
ALL = ("--data", 'reset_data=["etcd","volumes"]')
YES = ("-y", "--json", "--data", "reset=yes", *ALL)

# What docs/reset.md lists: packages, images, what runtimes write; and what a login leaves.
STAYS = (
    "/proc /sys /run /tmp /var/tmp /var/log /var/cache /var/lib/apt /var/lib/dpkg /var/lib/rpm"
    " /var/lib/containerd /var/lib/docker /var/lib/systemd /root/.bash_history /opt/containerd"
)
DUMP = rf"""
prune() {{ for path in {STAYS}; do printf -- '-path %s -prune -o ' "$path"; done; }}
find / -xdev $(prune) -type d -printf 'folder %p %m %U:%G\n' -o -type l -printf 'link %p %l\n' \
  -o -type f -size -4096k -printf 'file %p %m %U:%G ' -exec sha256sum {{}} \; -o -type f \
  -printf 'file %p %m %U:%G %s\n' | sort
find /var/log -mindepth 1 ! -path '/var/log/journal*' ! -name wtmp -printf 'log %p\n' | sort
systemctl list-unit-files --no-legend --no-pager | awk '{{ print "unit file " $1, $2 }}'
systemctl list-units --type=service --state=active --plain --no-legend --no-pager |
  awk '{{ print "unit " $1 }}' | grep -vE '^unit (user|user-runtime-dir|systemd-|dbus|getty)'
{{ ip -o link | awk '{{ print $2 }}'; ip -o -4 address | awk '{{ print $2, $4 }}'
  ip -4 route show table all; ip rule; }} | sed 's/^/net /'
for tool in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do
  $tool-save 2>/dev/null | grep -E '^(-A|:.* DROP|:.* - )' | sed "s/\[.*\]//; s/^/$tool /"
done
nft list tables 2>/dev/null | grep -vE ' (filter|nat|mangle|raw)$' | sed 's/^/nft /'
sysctl -a -r '^net\.(ipv4\.(ip_forward|conf\.(all|default|host0))|bridge)' 2>/dev/null |
  sed 's/^/sysctl /'
getent passwd | sed 's/^/user /'; getent group | sed 's/^/group /'
cut -d ' ' -f 5 /proc/self/mountinfo | grep -vE '^/(proc|sys|dev|run)' | sort | sed 's/^/mount /'
"""

# Files of somebody's own, where ours come to be.
OWN = {
    "/etc/sysctl.d/99-kubernetes.conf": "# of the user\nkernel.panic = 7\n",
    "/etc/crictl.yaml": "timeout: 3\n",
    "/etc/logrotate.d/kubernetes": "# of the user\n",
}


def dump(lab: Lab, name: str = HOST) -> list[str]:
    return execute(lab, name, DUMP)


def differs(before: list[str], after: list[str]) -> list[str]:
    return [f"- {line}" for line in before if line not in set(after)] + [
        f"+ {line}" for line in after if line not in set(before)
    ]


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, release: str) -> Iterator[Lab]:
    with held():
        down()
        yield Lab.up([HOST], release=release)
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    groups = {"control_plane": [HOST], "nodes": [HOST]}
    return Site(tmp_path_factory.mktemp("reset") / "cluster", {}, groups)


@pytest.fixture(scope="module")
def before(lab: Lab) -> list[str]:
    # Packages stay.
    execute(lab, HOST, "apt-get -qq update; apt-get -qq install runc nftables")
    for path, text in OWN.items():
        execute(lab, HOST, f"mkdir -p {path.rpartition('/')[0]}; printf '{text}' > {path}")
        execute(lab, HOST, f"chmod 640 {path}; touch -d 2001-02-03 {path}")
    return dump(lab)


@pytest.fixture(scope="module")
def built(before: list[str], site: Site) -> None:
    succeeded(site.run("-y"))


def test_nobody_is_reset_without_a_word(built: None, lab: Lab, site: Site) -> None:
    there = dump(lab)
    refused = site.run("-y", deploy="reset")
    assert refused.code
    assert "--data reset=" in refused.said
    assert differs(there, dump(lab)) == []
    wrong = site.run("-y", "--data", "reset=other", deploy="reset")
    assert wrong.code
    assert "allowed: yes, or the name of the cluster" in wrong.said


def test_the_host_is_as_before(built: None, before: list[str], lab: Lab, site: Site) -> None:
    # Programs are not needed to take them away.
    gone = ("--data", "kubernetes_source=/nowhere")
    dry = succeeded(site.run("--dry", "--json", *ALL, *gone, deploy="reset"))
    run = succeeded(site.run(*YES, *gone, deploy="reset"))
    assert not dry.conditional
    assert dry.planned == run.changed
    assert differs(before, dump(lab)) == []
    for path, text in OWN.items():
        assert execute(lab, HOST, f"stat -c '%a %Y' {path}; cat {path}") == [
            "640 981158400",
            *text.splitlines(),
        ]
    again = succeeded(site.run(*YES, deploy="reset"))
    assert again.changed == set()


def test_a_killed_reset_of_a_half_built_cluster_goes_on(
    built: None, before: list[str], lab: Lab, site: Site
) -> None:
    killed(site, "scratch", "Run kubelet", "-y")
    killed(site, "reset", "Remove what the cluster wrote", "-y", "--data", "reset=yes", *ALL)
    # Somebody goes on with a file of ours.
    execute(lab, HOST, "echo 192.0.2.99 of-the-user >> /etc/hosts")
    succeeded(site.run(*YES, deploy="reset"))
    execute(lab, HOST, "grep -q of-the-user /etc/hosts; sed -i /of-the-user/d /etc/hosts")
    assert differs(before, dump(lab)) == []


@pytest.mark.slow
def test_a_cluster_is_built_again(built: None, lab: Lab, site: Site) -> None:
    """With the data of the first one."""
    succeeded(site.run("-y"))
    kubectl = "kubectl --kubeconfig /srv/kubernetes/admin.kubeconfig"
    execute(lab, HOST, f"{kubectl} create configmap kept --from-literal=a=b")
    succeeded(site.run("-y", "--json", "--data", "reset=yes", deploy="reset"))
    assert (
        succeeded(site.run("-y", "--json", "--data", "reset=yes", deploy="reset")).changed == set()
    )
    succeeded(site.run("-y"))
    assert execute(lab, HOST, f"{kubectl} get configmap kept -o name") == ["configmap/kept"]
    assert succeeded(site.run("-y", "--json")).changed == set()


def killed(site: Site, deploy: str, at: str, *options: str) -> None:
    """Run a deploy and kill it when an operation begins."""
    path = REPOSITORY / f"deploys/{deploy}.py"
    words = [sys.executable.replace("python", "pyinfra"), site.inventory, path, *options]
    words[0] = str(REPOSITORY / ".venv/bin/pyinfra")
    run = subprocess.Popen(
        words,
        cwd=site.folder,
        env=site.environment,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    assert run.stderr
    for line in run.stderr:
        if re.search(rf"Starting operation: .*{re.escape(at)}", line):
            time.sleep(0.3)
            run.kill()
            break
    run.wait()
