"""Tracking: `collect` puts what a run has to say into its outbox, `send` hands outboxes to MLflow (its only user), and
a `Courier` does so from a process that was made ready before."""

from heatproof.stages.track.contents import collect
from heatproof.stages.track.courier import Courier
from heatproof.stages.track.sending import Sent, noted_as_sent, send
from heatproof.stages.track.stores import address, ui_command

__all__ = ["Courier", "Sent", "address", "collect", "noted_as_sent", "send", "ui_command"]
