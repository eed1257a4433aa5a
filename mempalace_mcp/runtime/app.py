"""The composition of one running process: the only place that names concrete stores."""

from __future__ import annotations
