"""At 3 a.m.: status, rollback, emergency, expiry, the watch after a promotion."""
