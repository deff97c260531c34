"""A campaign and its folder: create, resume, lock, commit, verify.

:class:`~trials.campaign.campaign.Campaign` is an allocated trial in a folder; its base class
:class:`~trials.campaign.folder.RunFolder` also serves sweeps. A campaign is created or resumed by
``create_or_resume`` and checked by :func:`~trials.campaign.verify.verify`.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from trials.campaign.campaign import Campaign
>>> from trials.config.load import read_protocol
>>> with TemporaryDirectory() as folder:
...     campaign = Campaign.create_or_resume(read_protocol("orl-rct"), Path(folder), None)
>>> len(campaign.table), campaign.table[0].unit_id, campaign.arms()
(24, 'split-10-01', ['control', 'treatment', 'placebo'])
"""
