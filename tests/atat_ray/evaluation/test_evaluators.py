"""Training of evaluation models: diverged ones are refused, seeds determine the result."""

from dataclasses import replace

import pytest
import torch

from atat_ray.data import IdentitySplit
from atat_ray.evaluation import Evaluation, fit_evaluation_models
from atat_ray.training import Training

TRAINING = Training(epochs=3, batch_size=8, learning_rate=0.003, weight_decay=0.0)


@pytest.fixture
def split(faces):
    return IdentitySplit(
        train=faces,
        recognised=faces,
        test=faces,
        public=faces,
        people=torch.arange(4),
        names=tuple("abcd"),
    )


def test_an_evaluation_model_that_diverged_is_refused(split):
    """Its scores would be meaningless and would still enter every outcome."""
    wild = Evaluation(ensemble=2, training=replace(TRAINING, learning_rate=1e9))
    with pytest.raises(
        ValueError,
        match=r"evaluation model 1 of 2 \(small_vgg\) diverged: its loss is nan after epoch \d of "
        r"3 at learning rate 1e\+09; lower evaluation.training.learning_rate",
    ):
        fit_evaluation_models(split, wild, seed=1)


def test_evaluation_models_are_a_function_of_the_seed(split):
    one, again, other = (
        fit_evaluation_models(split, Evaluation(ensemble=2, training=TRAINING), seed=seed)
        for seed in (1, 1, 2)
    )
    said = [models(split.test.images) for models in (one, again, other)]
    assert torch.equal(said[0], said[1])
    assert not torch.equal(said[0], said[2])
