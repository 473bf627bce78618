"""The era's Ansible inventories say the same as their pyinfra twins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyinfra.api.state import State
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory  # type: ignore[import-untyped]

from pyinfra_kube.ansible_2016.hosts import expand, literal, parse_hosts
from pyinfra_kube.ansible_2016.inventory import _TWINS, AnsibleInventory, read_inventory
from pyinfra_kube.ansible_2016.variables import Variables, ipaddr, settings
from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.errors import InputError, Wrong
from pyinfra_kube.cluster.spec import ClusterSpec

FIXTURES = Path(__file__).parent / "fixtures" / "ansible"
EXAMPLE = Path(__file__).parents[2] / "inventories" / "ansible.py"
LAYOUTS = {
    "2016-01": "2016-01/ansible/inventory",
    "2016-08": "2016-08/ansible/inventory/hosts",
    "2017": "2017/ansible/inventory",
}


def groups_and_data(file: Path) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """An inventory file as pyinfra loads it."""
    with ctx_state.use(State()):
        inventory = make_inventory(str(file))
    groups = {
        name: [host.name for host in hosts]
        for name, hosts in inventory.groups.items()
        if name != file.stem
    }
    return groups, {host.name: host.data.dict() for host in inventory}


def connections(data: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How pyinfra reaches each host, and as whom."""
    own = ("ssh_", "_")
    return {
        host: {key: value for key, value in values.items() if key.startswith(own)}
        for host, values in data.items()
    }


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


HOSTS = "[masters]\nm ansible_host=10.1.0.1\n[nodes]\nn[1:2]\n"


def read(folder: Path, all_yml: str, hosts: str = HOSTS) -> AnsibleInventory:
    write(folder, {"hosts": hosts, "group_vars/all.yml": all_yml})
    return read_inventory(folder / "hosts")


def refusal(folder: Path, all_yml: str, hosts: str = HOSTS) -> str:
    with pytest.raises(InputError) as failure:
        read(folder, all_yml, hosts)
    return str(failure.value)


# Whole inventories


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_plan_of_its_twin(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_INVENTORY", str(FIXTURES / LAYOUTS[layout]))
    theirs = groups_and_data(EXAMPLE)
    ours = groups_and_data(FIXTURES / f"twin_{layout.replace('-', '_')}.py")
    assert connections(theirs[1]) == connections(ours[1])
    spec, twin = ClusterSpec.from_inventory(*theirs), ClusterSpec.from_inventory(*ours)
    assert spec == twin
    assert make_plan(spec) == make_plan(twin)


def test_groups_and_data_need_no_pyinfra() -> None:
    inventory = read_inventory(FIXTURES / LAYOUTS["2016-08"])
    spec = ClusterSpec.from_inventory(inventory.groups, inventory.data)
    assert [host.name for host in spec.control_plane] == ["master-a", "master-b", "master-c"]
    assert inventory.data["master-b"]["_sudo"] is True
    assert inventory.data["master-b"]["_sudo_password"] == "not for print"


def test_the_example_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_INVENTORY", raising=False)
    spec = ClusterSpec.from_inventory(*groups_and_data(EXAMPLE))
    assert spec.control_plane_endpoint == "192.168.121.9"
    assert [host.name for host in spec.nodes] == ["kube-node-01", "kube-node-02"]


def test_each_unused_variable_is_named_once() -> None:
    inventory = read_inventory(FIXTURES / LAYOUTS["2016-01"])
    named = [line.split(": ")[1].split()[0] for line in inventory.warnings]
    assert named == [
        *("source_type", "cluster_logging", "cluster_monitoring", "kube-ui", "kube-dash"),
        *("dns_setup", "dns_replicas"),
    ]
    assert inventory.warnings[3].endswith("kube-ui is not used: add-ons are not built here")


def test_a_helper_variable_is_used_where_a_template_takes_it() -> None:
    inventory = read_inventory(FIXTURES / LAYOUTS["2016-08"])
    named = [line.split(": ")[1].split()[0] for line in inventory.warnings]
    assert sorted(named) == ["kube_config_dir", "kube_ui", "master_names"]


def test_the_first_master_comes_first_wherever_it_stands(tmp_path: Path) -> None:
    hosts = "[nodes]\nm2\nn1\n[masters]\nm1 ansible_host=10.1.0.1\nm2\n"
    inventory = read(tmp_path, "kube_version: 1.2.4", hosts)
    members, data = inventory.as_pyinfra()["all"]
    assert [name for name, _ in members] == ["m1", "m2", "n1"]
    assert data["kubernetes_version"] == "1.2.4"
    assert data["control_plane_endpoint"] == "10.1.0.1"


def test_a_master_without_address_is_said(tmp_path: Path) -> None:
    inventory = read(tmp_path, "", "[masters]\nm\n[nodes]\nn\n")
    assert inventory.warnings == (
        "m: its address is not known: set its ansible_host to it, or control_plane_endpoint",
    )
    assert read(tmp_path, "master_ip: 10.1.0.7").data["n1"]["control_plane_endpoint"] == "10.1.0.7"


def test_this_machine(tmp_path: Path) -> None:
    hosts = "[masters]\nlocalhost ansible_connection=local\n[nodes]\nlocalhost\n"
    inventory = read(tmp_path, "kube_version: 1.5.2\nmaster_ip: 10.1.0.7", hosts)
    assert inventory.groups == {"masters": ["@local"], "nodes": ["@local"]}
    spec = ClusterSpec.from_inventory(inventory.groups, inventory.data)
    assert spec.nodes[0].hostname_override == "localhost"


# Precedence


def test_precedence_is_ansibles(tmp_path: Path) -> None:
    places = {
        "inventory/hosts": "[masters]\nm {inline}\n[nodes]\nn\n"
        "[all:vars]\nx=all-vars\n[lab:children]\nmasters\n[lab:vars]\n{lab}\n"
        "[masters:vars]\n{masters}\n",
        "inventory/group_vars/all.yml": "x: beside-all",
        "group_vars/all.yml": "x: playbook-all",
        "inventory/group_vars/masters.yml": "x: beside-group",
        "group_vars/lab.yml": "x: playbook-outer-group",
        "group_vars/masters.yml": "x: playbook-group",
        "inline": "x=inline",
        "inventory/host_vars/m.yml": "x: beside-host",
        "host_vars/m.yml": "x: playbook-host",
    }
    rising = [
        ("all-vars", {}),
        ("lab-vars", {"lab": "x=lab-vars"}),
        ("masters-vars", {"masters": "x=masters-vars"}),
        *((text.split(": ")[1], {name: text}) for name, text in places.items() if ": " in text),
    ]
    rising.insert(-2, ("inline", {"inline": "x=inline"}))
    given = {"inline": "", "lab": "a=1", "masters": "a=1"}
    files: dict[str, str] = {}
    for number, (expected, more) in enumerate(rising):
        folder = tmp_path / str(number)
        for name, text in more.items():
            (given if name in given else files)[name] = text
        hosts = places["inventory/hosts"].format(**given) + "[all:vars]\nlog_level={{ x }}\n"
        write(folder, {**files, "inventory/hosts": hosts})
        read = read_inventory(folder / "inventory" / "hosts")
        assert read.data["m"]["log_level"] == expected


def test_a_folder_of_variables_wins_over_the_file_of_its_name(tmp_path: Path) -> None:
    files = {
        "group_vars/all/10.yml": "cluster_name: first",
        "group_vars/all/20": "cluster_name: second",
        "group_vars/all/30.yml~": "cluster_name: leftover",
        "group_vars/all/.40.yml": "cluster_name: hidden",
    }
    write(tmp_path, files)
    assert read(tmp_path, "cluster_name: file").data["m"]["cluster_name"] == "second"


def test_variables_beside_another_playbook(tmp_path: Path) -> None:
    write(tmp_path, {"a/hosts": HOSTS, "b/c/group_vars/all.yml": "cluster_name: elsewhere"})
    inventory = read_inventory(tmp_path / "a" / "hosts", tmp_path / "b" / "c")
    assert inventory.data["n2"]["flannel_etcd_prefix"] == "/elsewhere/network"


# Values


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("kube_version: 1.10", "kubernetes_version", "1.10"),
        ("kube_version: '{{ a }}'\na: 1.20", "kubernetes_version", "1.20"),
        ("kube_version:", "kubernetes_version", None),
        ("insecure_registrys:", "insecure_registries", None),
        ("insecure_registrys: a:5000, b", "insecure_registries", ["a:5000", "b"]),
        ("etcd_client_port: '4001'", "etcd_client_port", 4001),
        ("kube_master_api_port: '{{ 6000 + 443 }}'", "secure_port", 6443),
        ("kube-service-addresses: 10.3.0.0/16", "service_cidr", "10.3.0.0/16"),
        ("ansible_ssh_user: root", "_sudo", False),
        ("ansible_ssh_user: centos", "_sudo", True),
        ("ansible_sudo: 'no'", "_sudo", False),
        ("ansible_ssh_pass: 1234", "ssh_password", "1234"),
        ("ansible_ssh_private_key_file: ~/.ssh/lab", "ssh_key", "~/.ssh/lab"),
        ("kubelet_options: --v=4 --x", "kubelet_flags", {"v": "4", "x": True}),
        ("kubelet_options: []", "kubelet_flags", {}),
        (
            "kubelet_options: [--v=4]\nkubelet_additional_options: [--x=1]",
            "kubelet_flags",
            {"v": "4", "x": "1"},
        ),
        ("cluster_name: '{{ hostvars.m.ansible_ssh_host }}'", "cluster_name", "10.1.0.1"),
        ("cluster_name: '{{ groups.masters[0] }}'", "cluster_name", "m"),
        ("log_level: !unsafe 5", "log_level", "5"),
    ],
)
def test_values(tmp_path: Path, text: str, key: str, value: object) -> None:
    assert read(tmp_path, text).data["n1"].get(key) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("5", 5), ("True", True), ("1.10", "1.10"), ("[1, 'a']", [1, "a"]), ("a,b", "a,b")),
        *(("1,2", "1,2"), ("'1.10'", "1.10"), ("010", "010"), ("", ""), ("(" * 500, "(" * 500)),
    ],
)
def test_literals(text: str, value: object) -> None:
    assert literal(text) == value


@pytest.mark.parametrize(
    ("value", "query", "expected"),
    [
        ("10.254.0.0/16", "net", "10.254.0.0/16"),
        ("10.254.0.1/16", "net", False),
        ("10.254.0.0/16", 10, "10.254.0.10/16"),
        ("10.254.0.0/16", "-1", "10.254.255.255/16"),
        ("10.254.0.10/16", "address", "10.254.0.10"),
        ("10.254.0.10/16", "network", "10.254.0.0"),
        ("10.254.0.10/16", "prefix", 16),
        ("no address", "", False),
        ("10.254.0.1", "", "10.254.0.1"),
    ],
)
def test_ipaddr(value: str, query: str | int, expected: object) -> None:
    assert ipaddr(value, query) == expected


# Keys of ours among theirs

_SERVERS = "dns_server: \"{{ kube_service_addresses | ipaddr(10) | ipaddr('address') }}\""


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("kubernetes_version: 1.5.3\nkube_version: 1.5.2", "kubernetes_version", "1.5.3"),
        ("KUBERNETES_VERSION: 1.5.3\nkube_version: 1.5.2", "kubernetes_version", "1.5.3"),
        ("kubernetes_version:\nkube_version: 1.5.2", "kubernetes_version", "1.5.2"),
        ("network: routes\nnetworking: flannel", "network", "routes"),
        ("secure_port: '6443'", "secure_port", 6443),
        ("kubelet_flags: {v: 4}\nkubelet_options: --v=2 --x", "kubelet_flags", {"v": 4}),
        ("cluster_cidr: 10.20.0.0/16", "flannel_network", None),
        (
            "cluster_cidr: 10.20.0.0/16\nflannel_subnet: 10.20.0.0",
            "flannel_network",
            "10.20.0.0/12",
        ),
        (
            "flannel_network: 10.20.0.0/16\nflannel_subnet: 10.9.0.0",
            "flannel_network",
            "10.20.0.0/16",
        ),
        # What a template of theirs makes goes with ours.
        (f"service_cidr: 10.3.0.0/16\n{_SERVERS}", "cluster_dns", "10.3.0.10"),
        (
            f"kube_service_addresses: 9.0.0.0/8\nservice_cidr: 10.3.0.0/16\n{_SERVERS}",
            "cluster_dns",
            "10.3.0.10",
        ),
        ("cluster_domain: a.b\ndns_domain: c.d", "cluster_domain", "a.b"),
        ("ssh_user: me\nansible_user: you", "ssh_user", "me"),
        ("hostname_override: n-1\nlog_level: 4", "log_level", 4),
    ],
)
def test_our_keys_win(tmp_path: Path, text: str, key: str, value: object) -> None:
    inventory = read(tmp_path, f"{text}\nmaster_ip: 10.1.0.1")
    assert inventory.data["n1"].get(key) == value
    assert inventory.warnings == ()


@pytest.mark.parametrize("key", sorted(_TWINS))
def test_every_key_of_ours_wins_wherever_theirs_stands(tmp_path: Path, key: str) -> None:
    write(tmp_path, {"host_vars/n1.yml": f"{_TWINS[key]}: 8"})
    inventory = read(tmp_path, f"{key}: 7\nmaster_ip: 10.1.0.1")
    same = read(tmp_path, f"{key}: 7\n{_TWINS[key]}: 7\nmaster_ip: 10.1.0.1")
    assert inventory.data["n1"][key] == inventory.data["m"][key] == same.data["m"][key]
    assert inventory.warnings == ()


def test_our_keys_have_ansibles_precedence(tmp_path: Path) -> None:
    write(tmp_path, {"host_vars/n1.yml": "ssh_port: 2222", "group_vars/nodes.yml": "ssh_port: 222"})
    data = read(tmp_path, "ssh_port: 22\nansible_port: 2").data
    assert [data[name]["ssh_port"] for name in ("m", "n1", "n2")] == [22, 2222, 222]


# Names that no node can have


def test_a_node_is_called_as_its_host_can_be(tmp_path: Path) -> None:
    hosts = "[masters]\nk8s_master ansible_host=10.1.0.1\n[nodes]\nKube_Node.lan\nn-1\n"
    inventory = read(tmp_path, "kube_version: 1.5.2", hosts)
    spec = ClusterSpec.from_inventory(inventory.groups, inventory.data)
    assert [host.hostname_override for host in spec.hosts] == ["k8s-master", "kube-node.lan", "n-1"]
    assert [host.known_as for host in spec.hosts] == ["k8s-master", "kube-node.lan", "n-1"]
    assert [line.split(",")[0] for line in inventory.warnings] == [
        "k8s_master: its node is k8s-master",
        "Kube_Node.lan: its node is kube-node.lan",
    ]
    chosen = read(
        tmp_path, "kube_version: 1.5.2", hosts.replace(".lan", ".lan hostname_override=k")
    )
    assert chosen.data["Kube_Node.lan"]["hostname_override"] == "k"


def test_two_hosts_of_one_node_name_are_refused(tmp_path: Path) -> None:
    hosts = "[masters]\nm ansible_host=10.1.0.1\n[nodes]\nn_1\nn-1\n"
    inventory = read(tmp_path, "kube_version: 1.5.2", hosts)
    with pytest.raises(InputError, match="n-1: hostname_override = 'n-1'; allowed: its own: n_1"):
        ClusterSpec.from_inventory(inventory.groups, inventory.data)


def test_the_era_s_own_inventory_of_this_machine(tmp_path: Path) -> None:
    hosts = (
        "[masters]\nlocalhost ansible_connection=local\n"
        "[etcd]\nlocalhost ansible_connection=local\n[nodes]\nlocalhost ansible_connection=local\n"
    )
    (warning,) = read(tmp_path, "kube_version: 1.5.2", hosts).warnings
    assert warning == (
        "localhost: its address is not known: set its ansible_host to it, or control_plane_endpoint"
    )
    for fixed, text in (
        (hosts.replace("=local", "=local ansible_host=10.1.0.7"), ""),
        (hosts, "master_ip: 10.1.0.7"),
    ):
        inventory = read(tmp_path, f"kube_version: 1.5.2\n{text}", fixed)
        spec = ClusterSpec.from_inventory(inventory.groups, inventory.data)
        assert spec.control_plane_endpoint == "10.1.0.7"
        assert [host.known_as for host in spec.hosts] == [None]


# Refusals


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kube_version: '{{ kube_release }}'", "'kube_release' is undefined"),
        ("dns_server: '{{ ansible_default_ipv4.address }}'", "fix: write the value itself"),
        ("dns_server: '{{ kube_service_addresses | ipaddr(\"odd\") }}'", "ipaddr('odd')"),
        ("dns_server: '{{ kube_service_addresses '", "a template over variables"),
        ("cluster_name: '{{ a }}'\na: '{{ b }}'\nb: '{{ a }}'", "(a → b → a)"),
        ("cluster_name: '{{ cluster_name }}'", "(cluster_name → cluster_name)"),
        ("cluster_name: '{{ ''.__class__.__mro__ }}'", "a template over variables"),
        ("kubelet_options: [v4]", "allowed: flags such as --max-pods=50"),
        ("flannel_options: --ip-masq", "allowed: -iface=NAME; fix: leave the others out"),
        ("ansible_connection: docker", "ansible_connection = 'docker'; allowed: local, ssh"),
        ("a: [", "all.yml:1 = (not shown); allowed: YAML (expected the node content"),
        ("- a", "YAML with names and values"),
        ("\x01", "YAML (it has characters that YAML has not)"),
    ],
)
def test_refusals(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "$ANSIBLE_VAULT;1.1;AES256\n6162\n",
        "ansible_ssh_pass: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n",
        "cluster_name: |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n",
        "kubelet_options: ['--x={{ t }}']\nt: !vault-encrypted |\n  $ANSIBLE_VAULT;1.1\n  6162\n",
    ],
)
def test_a_vault_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, text)
    assert "vault" in message
    assert "fix: " in message
    assert "6162" not in message


def test_a_vault_that_nobody_needs_is_only_named(tmp_path: Path) -> None:
    inventory = read(tmp_path, "other: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n")
    assert inventory.warnings[0].endswith("other is not used: nothing here is like it")


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    message = refusal(tmp_path, "ansible_ssh_pass: 's3cret {{ nowhere }}'")
    assert "s3cret" not in message
    message = refusal(tmp_path, "kubelet_options: '--bearer-token=s3cret {{ nowhere }}'")
    assert "s3cret" not in message
    hosts = "[masters\nm ansible_ssh_pass=s3cret more\n[nodes]\nn ansible_ssh_pass='s3cret\n"
    message = refusal(tmp_path, "", hosts)
    assert "s3cret" not in message
    assert message.count("\n") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[masters:hosts]", "hosts:1 = (not shown); allowed: [group], [group:children]"),
        ("[a]\nh x", "hosts:2 = (not shown); allowed: variable=value"),
        ("[a:vars]\nx", "allowed: variable=value"),
        ("[a:vars]\nx=1", "hosts:1 = 'a'; allowed: a group that stands in the inventory"),
        ("[a:children]\nb", "= 'b'; allowed: a group that stands in the inventory; fix: add [b]"),
        ("[a:children]\nb\n[b:children]\na", "[a:children] = (not shown); allowed: groups that"),
        ("[a]\nn[3:1]", "a range [3:1] that goes upwards; fix: write [1:3]"),
        ("[a]\nfe80::1", "a host's name or IPv4 address"),
    ],
)
def test_lines_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError) as failure:
        parse_hosts({"hosts": text})
    assert said in str(failure.value)


@pytest.mark.parametrize("text", ["#!/bin/sh\n", "[a]\nh\n"])
def test_what_is_no_ini_is_refused(tmp_path: Path, text: str) -> None:
    name = "hosts" if text.startswith("#!") else "hosts.yml"
    with pytest.raises(InputError, match="an inventory in INI form"):
        read_inventory(write(tmp_path, {name: text}) / name)
    with pytest.raises(InputError, match="a file that can be read"):
        read_inventory(tmp_path / "missing")


# Ranges


@given(
    first=st.integers(0, 120), more=st.integers(0, 30), step=st.integers(1, 5), width=st.booleans()
)
def test_number_ranges(first: int, more: int, step: int, width: bool) -> None:
    digits = len(str(first + more)) if width else 0
    left, right = str(first).zfill(digits), str(first + more).zfill(digits)
    names = expand(f"n[{left}:{right}:{step}].x")
    numbers = range(first, first + more + 1, step)
    padded = digits if left.startswith("0") and len(left) > 1 else 0
    assert names == [f"n{str(number).zfill(padded)}.x" for number in numbers]


@given(st.characters(categories=["Ll"], max_codepoint=122), st.integers(1, 4))
def test_letter_ranges_multiply(last: str, high: int) -> None:
    names = expand(f"[a:{last}]-[1:{high}]")
    assert len(set(names)) == (ord(last) - ord("a") + 1) * high
    assert names[0] == "a-1"
    assert names[-1] == f"{last}-{high}"
    assert names == sorted(names)


@given(st.text("n[]:019az", max_size=12))
@example("[[:0]")
def test_a_name_is_expanded_or_refused(pattern: str) -> None:
    try:
        names = expand(pattern)
    except Wrong:
        return
    assert not any(set("[]") & set(name) for name in names)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.sampled_from([*(f"{{{{ {n} }}}}" for n in "abcdef"), "end"])
    )
)
def test_templates_end_or_are_refused(chains: dict[str, str]) -> None:
    variables = Variables(settings(chains, "all.yml"))
    for name in chains:
        try:
            assert variables[name] == "end"
        except InputError:
            continue
