"""Evaluation models, and the scores that they give to reconstructions."""

from atat_ray.evaluation.evaluators import Evaluation, EvaluationModels, fit_evaluation_models

__all__ = ["Evaluation", "EvaluationModels", "fit_evaluation_models"]
