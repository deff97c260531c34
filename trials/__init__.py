"""Randomised trials of many training runs: protocol, allocation, campaign, record, command line.

A protocol declares blocks, arms, contrasts and all settings of training, attack and measurement.
``trials`` assigns arms to units at random, runs each unit with :mod:`atat_ray` on Ray Tune, and
records it in MLflow, where :mod:`analysis` reads it.

    config       protocols and sweeps: what a file may contain, reading it, errors of one line
    allocation   random allocation of units to arms
    campaign     folder of a campaign: create, resume, lock, verify
    tracking     record in MLflow: connect, write, correct after a move
    execution    run the pending units on Ray: resources, tasks, failures, progress
    search       sweeps over the options of a defense
    planning     units, power and hours of a protocol before it runs; rehearsal
    cli          command line ``atat``

From a shell, the shipped trial is planned, run and reported by

    atat plan orl-rct
    atat run orl-rct
    atat report orl-rct

From Python, start with :func:`trials.config.load.read_protocol`,
:meth:`trials.campaign.campaign.Campaign.create_or_resume` and :func:`trials.execution.run.run`.
"""
