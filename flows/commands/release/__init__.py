"""Commands for releases: appoint, promote, approve, canary, status, audit."""
