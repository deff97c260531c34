"""The report: sentences, tables, figures, the page."""
