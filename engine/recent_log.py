"""
What a program of Kubernetes said last, for people.
"""

from __future__ import annotations

WORDS = (
    r"grep -vE '^[[:space:]]|^$|^(goroutine|created by) |^[^ ]+[(][^ ]*(, [^ ]+)*[)]$"
    r"|^(Usage|([A-Z][a-z ]* f|F)lags):$|^Flag --[^ ]+ has been deprecated'"
)
"""
Shell that leaves out of a log what hides why the program ended: one that refuses a flag says so
between all its flags and all its stacks, and warns of every flag that it is to lose one day.
"""
