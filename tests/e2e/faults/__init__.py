"""
Faults of a running cluster: how to put one in, how to mend it, and what verification must call it.

    found = named(site)
    with put_in(FAULTS["a stopped kubelet"], lab, site):
        found = named(site)
"""

from tests.e2e.faults import in_api, on_hosts, on_networks
from tests.e2e.faults.fault import Fault, named, put_in, see, until_well

__all__ = ["FAULTS", "Fault", "named", "put_in", "see", "until_well"]

FAULTS: dict[str, Fault] = {
    **on_hosts.FAULTS,
    **on_networks.FAULTS,
    **in_api.FAULTS,
    **on_hosts.LAST,
}
