"""Stage `plan`: the composed config as typed settings and bound choices, everything checked before work starts."""

from heatproof.stages.plan.done import COMPLETE, done_hash, find_done, note_done, note_reused, said, stands_for
from heatproof.stages.plan.making import make_plan
from heatproof.stages.plan.record import Plan, ReportSettings, Tracking
from heatproof.stages.plan.words import plan_text

__all__ = [
    "COMPLETE",
    "Plan",
    "ReportSettings",
    "Tracking",
    "done_hash",
    "find_done",
    "make_plan",
    "note_done",
    "note_reused",
    "plan_text",
    "said",
    "stands_for",
]
