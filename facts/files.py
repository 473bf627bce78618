"""
Files, directories and links, any number of them in one round trip; what sets files reads them too.
"""

from __future__ import annotations

from pyinfra_kube.engine.file_states import FileContents, Files, FileState, Obstacles

__all__ = ["FileContents", "FileState", "Files", "Obstacles"]
