"""The parts of benchmarks/gpu.py: checks and measurements of one GPU, with PyTorch alone.

``session`` runs each part in a process of its own and collects its rows; ``tables`` writes them.
The parts ask three questions. Right: ``precision``, ``agreement``, ``repeats``, ``placement``.
Fast: ``training_speed``, ``attack_speed``, ``embedded``, ``compiled``. So what: ``advice``.
"""
