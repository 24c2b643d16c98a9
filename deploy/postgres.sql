-- Runs once, on an empty volume: databases beside the log's own.
CREATE DATABASE mlflow;
CREATE DATABASE prefect;
