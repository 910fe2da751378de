"""Stage `plan`: the composed config as typed settings and bound choices, everything checked before work starts."""

from heatproof.stages.plan.making import make_plan
from heatproof.stages.plan.record import Plan, ReportSettings, Tracking
from heatproof.stages.plan.words import plan_text

__all__ = ["Plan", "ReportSettings", "Tracking", "make_plan", "plan_text"]
