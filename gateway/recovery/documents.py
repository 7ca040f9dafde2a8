"""What the database keeps as JSON: in which table and column, and as what."""

from __future__ import annotations

from typing import Any

from common.models import ModelSettings
from gateway.experiments.plans import Record
from gateway.jobs.job import Job
from gateway.state.state import Signature

DOCUMENTS: tuple[tuple[str, str, Any], ...] = (
    ("versions", "settings", ModelSettings),
    ("versions", "inputs", Signature),
    ("versions", "outputs", Signature),
    ("models", "settings", ModelSettings),
    ("experiments", "body", Record),
    ("jobs", "body", Job),
)
