"""Engine, tables, records, migrations: what all aggregates stand on."""
