"""Quality of models, decisions and alarms."""
