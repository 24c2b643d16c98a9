"""The only feature code: one plan, executed online and offline with the same bits."""
