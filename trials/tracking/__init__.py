"""The record in MLflow: connect to it, write it, correct it after a move."""
