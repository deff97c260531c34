"""Train image classifiers with privacy defenses, invert them, and measure what leaks.

``atat_ray`` holds the numerics of one training run: train a target model under a defense,
reconstruct its training data by a model inversion attack, and score the reconstructions with
evaluation models that the attack never used. It needs torch only; the packages ``trials``
(randomised trials of many runs) and ``analysis`` (statistics) build on it.

    data         datasets: list, decode and cache images; split people into private and public
    models       networks from images in [0, 1] to logits, and access to their layers
    training     training loop, its schedule and checkpoints, and the interface of a defense
    defenses     defenses by name, one file each
    robustness   adversarial examples: PGD, AutoAttack, robust accuracy
    dependence   HSIC and CKA between features, images and labels; bounds on estimating an image
    priors       image generators that an inversion attack searches, by name
    inversion    model inversion attacks by name, one file each
    evaluation   evaluation models, and scores of reconstructions
    metrics      attack accuracy, feature distances, Frechet distance, PRDC
    unit         one run of a trial, from its specification to its outcome
    utils        seeds, hashes, files, devices, registries

An example on the embedded ORL faces that takes seconds on a CPU: six people are private, the
others are public.

>>> from atat_ray.data import Data, load_split
>>> from atat_ray.defenses import DEFENSES
>>> from atat_ray.evaluation import Evaluation, fit_evaluation_models, score
>>> from atat_ray.inversion import ATTACKS, invert
>>> from atat_ray.models import build_target
>>> from atat_ray.priors import PRIORS, fit_prior
>>> from atat_ray.training import Training, accuracy, train

>>> split = load_split(Data(name="orl_faces", num_private=6, num_train=7, size=32), 0)
>>> target = build_target("small_resnet", num_classes=6, channels=1, seed=1)
>>> defense = DEFENSES["anti_adversarial"](
...     weight=0.5, epsilon=0.01, steps=2, step_size=0.005, random_start=True)
>>> schedule = Training(epochs=20, batch_size=14, learning_rate=0.004, weight_decay=0.01)
>>> curves = train(target, split.train, defense, schedule, seed=1)
>>> prior = fit_prior(PRIORS["rotated_pca"](num_components=60, num_faces=300), split.public, seed=1)
>>> attack = ATTACKS["ppa"].from_preset("quick", samples=50, steps=15, keep=2)
>>> found = invert(target, prior, num_classes=6, attack=attack, seed=1)
>>> judges = fit_evaluation_models(split, Evaluation(ensemble=1, training=schedule), seed=1)
>>> scores = score(found.images, found.classes, judges, split)
>>> accuracy(target, split.test) > 1 / 6, scores.outcomes["att_acc_1"] > 1 / 6  # chance is 1 / 6
(True, True)
"""

__version__ = "0.1.0"
