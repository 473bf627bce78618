"""Whose chains go with kube-router: its own, and what leads there."""

from __future__ import annotations

import subprocess

from pyinfra_kube.operations import policy_rules

SAVED = """\
*filter
:INPUT ACCEPT [1:2]
:FORWARD DROP [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NWPLCY-DEFAULT - [0:0]
:KUBE-POD-FW-ABC - [0:0]
:KUBE-ROUTER-FORWARD - [3:4]
:KUBE-ROUTER-INPUT - [0:0]
:KUBE-ROUTER-OTHER - [0:0]
-A INPUT -m comment --comment "kube-router netpol - 4IA" -j KUBE-ROUTER-INPUT
-A INPUT -j KUBE-ROUTER-OTHER
-A FORWARD -m comment --comment "kube-router netpol - TEM" -j KUBE-ROUTER-FORWARD
-A FORWARD -j KUBE-FORWARD
-A KUBE-ROUTER-FORWARD -d 10.1.0.2/32 -j KUBE-POD-FW-ABC
-A KUBE-POD-FW-ABC -j KUBE-NWPLCY-DEFAULT
COMMIT
"""
GONE = """\
:KUBE-NWPLCY-DEFAULT - [0:0]
:KUBE-POD-FW-ABC - [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-ROUTER-INPUT - [0:0]
-D INPUT -m comment --comment "kube-router netpol - 4IA" -j KUBE-ROUTER-INPUT
-D FORWARD -m comment --comment "kube-router netpol - TEM" -j KUBE-ROUTER-FORWARD
-X KUBE-NWPLCY-DEFAULT
-X KUBE-POD-FW-ABC
-X KUBE-ROUTER-FORWARD
-X KUBE-ROUTER-INPUT
"""


def _gone(saved: str) -> str:
    text = policy_rules._REMOVE
    function = text[text.index("gone() {") : text.index("for tables")]
    words = ["sh", "-c", f"{function}gone"]
    return subprocess.run(words, input=saved, capture_output=True, text=True, check=True).stdout


def test_its_own_chains_go() -> None:
    assert _gone(SAVED) == GONE


def test_nothing_goes_where_it_never_was() -> None:
    assert _gone("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n") == ""
