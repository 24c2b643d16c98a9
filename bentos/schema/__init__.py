"""What an event is: columns, types, strict JSON, tables, look-ups, hashed ids."""
