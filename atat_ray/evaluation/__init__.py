"""Evaluation models: score reconstructions with classifiers that the attack never used.

The evaluation models are trained on the private training images, once for each block, before any
unit. Attack accuracy (AttAcc@k) is the share of reconstructions whose class is among the k most
probable ones. Here real test images take the place of reconstructions:

>>> from atat_ray.data import Data, load_split
>>> from atat_ray.training import Training
>>> split = load_split(Data(name="orl_faces", num_private=4, num_train=7, size=32), 0)
>>> schedule = Training(epochs=12, batch_size=14, learning_rate=0.003, weight_decay=0.01)
>>> models = fit_evaluation_models(split, Evaluation(ensemble=1, training=schedule), seed=1)
>>> test = split.test
>>> scores = score(test.images[test.labels.argsort()], test.labels.sort().values, models, split)
>>> scores.outcomes["att_acc_1"] > 0.5  # chance is 0.25
True
>>> [row["n"] for row in scores.classes]  # images of each person
[3, 3, 3, 3]
"""

from atat_ray.evaluation.evaluators import (
    Evaluation,
    EvaluationModels,
    fit_evaluation_models,
    held_out_accuracy,
)
from atat_ray.evaluation.scoring import Scores, score

__all__ = [
    "Evaluation",
    "EvaluationModels",
    "Scores",
    "fit_evaluation_models",
    "held_out_accuracy",
    "score",
]
