"""Champion against challenger: figures, ramp, verdicts."""
