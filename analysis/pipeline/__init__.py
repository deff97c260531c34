"""Apply the estimators to the contrasts and outcomes of a record."""
