"""Training: a run set up from its spec, one loop, losses, checkpoints, cached teacher outputs, a cost estimate."""
