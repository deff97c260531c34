"""Many units: the protocol, who gets which arm, the campaign on Ray, the record in MLflow."""
