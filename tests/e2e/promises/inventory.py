"""
The lab's hosts with other settings: PROMISE_INVENTORY holds, as JSON, the names of the hosts that
count, the data of all and the data of each.
"""

import json
import os
import runpy
from pathlib import Path

_orders = json.loads(os.environ["PROMISE_INVENTORY"])
_lab = runpy.run_path(str(Path(_orders["inventory"]).resolve()))


def _host(name, data):
    return name, {**data, **_orders["hosts"].get(name, {})}


globals().update(
    {
        group: (
            [_host(*host) for host in found[0] if host[0] in _orders["names"]],
            {**found[1], **_orders["all"]},
        )
        for group, found in _lab.items()
        if not group.startswith("_") and isinstance(found, tuple) and len(found) == 2
    }
)
