"""What a flow run is given, records and shows."""
