"""What `modprobe` finds on a host: the features that this machine's kernel really has built in.

A host shares the machine's kernel and has no module files of its own, so a `modprobe` of
something that is there would fail, which it never does on a server.
"""

from __future__ import annotations

import gzip
import platform
from pathlib import Path

from tests.lab.machine import run

KERNEL = platform.release()

# Modules that cluster hosts ask for: {name: (folder in the kernel tree, its configuration key)}.
_ASKED = {
    "br_netfilter": ("net/bridge", "BRIDGE_NETFILTER"),
    "bridge": ("net/bridge", "BRIDGE"),
    "dummy": ("drivers/net", "DUMMY"),
    "ip6_tables": ("net/ipv6/netfilter", "IP6_NF_IPTABLES"),
    "ip_set": ("net/netfilter/ipset", "IP_SET"),
    "ip_set_bitmap_port": ("net/netfilter/ipset", "IP_SET_BITMAP_PORT"),
    "ip_set_hash_ip": ("net/netfilter/ipset", "IP_SET_HASH_IP"),
    "ip_set_hash_ipport": ("net/netfilter/ipset", "IP_SET_HASH_IPPORT"),
    "ip_set_hash_ipportip": ("net/netfilter/ipset", "IP_SET_HASH_IPPORTIP"),
    "ip_set_hash_ipportnet": ("net/netfilter/ipset", "IP_SET_HASH_IPPORTNET"),
    "ip_tables": ("net/ipv4/netfilter", "IP_NF_IPTABLES"),
    "ip_vs": ("net/netfilter/ipvs", "IP_VS"),
    "ip_vs_rr": ("net/netfilter/ipvs", "IP_VS_RR"),
    "ip_vs_sh": ("net/netfilter/ipvs", "IP_VS_SH"),
    "ip_vs_wrr": ("net/netfilter/ipvs", "IP_VS_WRR"),
    "ipip": ("net/ipv4", "NET_IPIP"),
    "iptable_filter": ("net/ipv4/netfilter", "IP_NF_FILTER"),
    "iptable_mangle": ("net/ipv4/netfilter", "IP_NF_MANGLE"),
    "iptable_nat": ("net/ipv4/netfilter", "IP_NF_NAT"),
    "nf_conntrack": ("net/netfilter", "NF_CONNTRACK"),
    "nf_nat": ("net/netfilter", "NF_NAT"),
    "nf_tables": ("net/netfilter", "NF_TABLES"),
    "nft_chain_nat": ("net/netfilter", "NFT_NAT"),
    "nft_ct": ("net/netfilter", "NFT_CT"),
    "nft_fib": ("net/netfilter", "NFT_FIB"),
    "nft_fib_ipv4": ("net/ipv4/netfilter", "NFT_FIB_IPV4"),
    "nft_masq": ("net/netfilter", "NFT_MASQ"),
    "nft_nat": ("net/netfilter", "NFT_NAT"),
    "nft_numgen": ("net/netfilter", "NFT_NUMGEN"),
    "nft_reject": ("net/netfilter", "NFT_REJECT"),
    "nft_reject_ipv4": ("net/ipv4/netfilter", "NFT_REJECT_IPV4"),
    "overlay": ("fs/overlayfs", "OVERLAY_FS"),
    "sch_htb": ("net/sched", "NET_SCH_HTB"),
    "tun": ("drivers/net", "TUN"),
    "veth": ("drivers/net", "VETH"),
    "vxlan": ("drivers/net/vxlan", "VXLAN"),
    "xt_addrtype": ("net/netfilter", "NETFILTER_XT_MATCH_ADDRTYPE"),
    "xt_comment": ("net/netfilter", "NETFILTER_XT_MATCH_COMMENT"),
    "xt_conntrack": ("net/netfilter", "NETFILTER_XT_MATCH_CONNTRACK"),
    "xt_MASQUERADE": ("net/netfilter", "NETFILTER_XT_TARGET_MASQUERADE"),
    "xt_mark": ("net/netfilter", "NETFILTER_XT_MARK"),
    "xt_set": ("net/netfilter", "NETFILTER_XT_SET"),
    "xt_statistic": ("net/netfilter", "NETFILTER_XT_MATCH_STATISTIC"),
}


def load_on_machine() -> None:
    """Load what the machine has as modules: a host cannot load them itself."""
    run("modprobe", "--all", "--quiet", *_ASKED, check=False)


def present() -> list[str]:
    """The asked-for modules that the running kernel has, loaded or built in."""
    options = _configuration()
    loaded = {line.split()[0] for line in _read(Path("/proc/modules")).splitlines()}
    built_in = _read(Path(f"/lib/modules/{KERNEL}/modules.builtin"))
    return [
        name
        for name, (_, option) in _ASKED.items()
        if f"CONFIG_{option}=y" in options or name in loaded or f"/{name}.ko" in built_in
    ]


def describe(usr: Path) -> None:
    """Write the module index of a host whose /usr is `usr`."""
    folder = usr / "lib/modules" / KERNEL
    folder.mkdir(parents=True)
    lines = [f"kernel/{_ASKED[name][0]}/{name}.ko" for name in present()]
    (folder / "modules.builtin").write_text("\n".join(lines) + "\n")
    (folder / "modules.order").touch()
    run("depmod", "--basedir", usr, KERNEL)


def _configuration() -> set[str]:
    compressed = Path("/proc/config.gz")
    if compressed.exists():
        return set(gzip.decompress(compressed.read_bytes()).decode().splitlines())
    return set(_read(Path(f"/boot/config-{KERNEL}")).splitlines())


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
