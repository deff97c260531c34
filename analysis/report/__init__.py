"""Report of a campaign: one self-contained HTML page, and the tables behind it as CSV.

:func:`conclude` reads a campaign from MLflow and writes its report, :func:`write_report` writes
that of a record. Both return a :class:`Report` with the verdict and the paths of the files.

>>> from tempfile import TemporaryDirectory
>>> import pandas as pd
>>> from analysis.record import record_from_units
>>> from analysis.report import write_report
>>> leakage = {"control": [0.92, 0.89, 0.95, 0.90], "treatment": [0.61, 0.58, 0.66, 0.60]}
>>> units = pd.DataFrame([
...     {"unit_id": f"{arm}-{i}", "block": "b", "arm": arm, "standard/att_acc_1": value}
...     for arm, values in leakage.items() for i, value in enumerate(values)
... ])
>>> record = record_from_units(
...     units, outcome="standard/att_acc_1", arm="treatment", against="control"
... )
>>> with TemporaryDirectory() as folder:
...     report = write_report(record, folder)
...     print(report.page.name, report.page.exists())
report.html True
>>> print(report.verdict)  # doctest: +ELLIPSIS
Over 8 training runs, AttAcc@1 (standard inversion) was 30.2 pp lower in treatment than in ...
"""

from analysis.report.files import Report, conclude, one_line, write_report

__all__ = ["Report", "conclude", "one_line", "write_report"]
