"""Environment files as nobody would write them, always the same."""

from __future__ import annotations

import random

_PARTS = [
    *("A", "B", "V", "_x1", "1A", "export A", "A B", "ü"),
    *("=", "=", "=", "=", "\n", "\n", "\n", "\n", "\\\n", "\\\n", "\r\n", "\r"),
    *('"', '"', '"', "'", "'", "\\", "\\", '\\"', "\\'", "\\$", "\\`", "\\n", "\\\\"),
    *("#", ";", " # ", "\n#", "\n;", "# \\\n", " ", "  ", "\t", "$A", "${A}", "`x`", "$"),
    *("--a=b", "--log-opt tag=", "{{.Name}} x", "é", "x", "word", "0"),
    *("A=", "V=", "\nV=", '\nV="', "\nV='", '\nA="', "\x01", "\x7f", "\v"),
]

CASES = [
    'V="--a=b \\\n  --c=d"\n',
    "V=' --selinux-enabled --log-level=warn\n'\n",
    'V="--log-opt tag=\\"{{.Name}} x\\""\n',
    "V='--log-opt tag=\"{{.Name}} x\"'\n",
    'V="1450',
    "V='1450",
    "V=a \\",
    "# x \\\nV=b\n",
    "V=a\n# V=b \\\nV=c\nA=d",
    'V="a"\'b\'c"d" # e\n',
    "export V=a\n V = b c \nV=\n",
    "V=a\\\n\nA=b",
    "V=a  \\\nA=b\n",
    "V=\\\n  a  \\\n  b  \n",
    'V="a\\\nb\\nc"\n',
    "V",
    "V=",
    "=V\nA=b",
    "\ufeffV=a\nA=b\n",
]


def corpus(count: int = 300, seed: int = 2016) -> list[str]:
    """Known cases first, then so many made of what matters to a reader."""
    chance = random.Random(seed)
    return [
        *CASES,
        *("".join(chance.choices(_PARTS, k=chance.randint(3, 24))) for _ in range(count)),
    ]
