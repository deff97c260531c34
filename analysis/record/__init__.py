"""Read the record of a campaign from MLflow into tables."""
