"""From a verdict to the alias: state machine, evidence, approval, appointments, recovery."""
