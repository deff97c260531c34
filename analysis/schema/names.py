"""The contract between the record and its analysis: what MLflow holds, its names and units.

``trials`` writes exactly this, ``analysis`` reads exactly this, and neither knows the other's code.

A campaign is one MLflow *experiment* with one parent run and one child run a unit.

Parent run: tags ``atat.kind = campaign`` and those in :data:`CAMPAIGN_TAGS`; artifacts
:data:`PROTOCOL_FILE` (the protocol as canonical JSON) and :data:`ALLOCATION_FILE` (a CSV with the
columns of :data:`ALLOCATION_COLUMNS`, one row a unit in the order of the draw) and
:data:`ASSETS_FILE` (JSON list: evaluation models and priors of each block, hash and accuracy).

Child run: tags ``atat.kind = unit`` and those in :data:`UNIT_TAGS`; one MLflow metric for each
outcome (step 0), curves as metrics with the prefix ``epoch/`` (step = epoch), artifacts
:data:`CLASSES_FILE` and ``pictures/<inversion>.png``. A unit's run counts once MLflow holds it
as FINISHED or FAILED; until then the unit is pending.

The contrast named ``primary`` decides; the one named ``mechanism``, of the same arm against a
second reference, is the only other of which the verdict speaks. Canonical JSON sorts names, so no
order is read from it.

All accuracies, confidences and AttAcc are fractions in [0, 1]; distances are unsquared L2 between
unit-norm evaluation features, in [0, 2]; epsilon is an L-infinity radius in pixel units for images
in [0, 1]; durations are seconds.

A campaign that keeps its own record has MLflow's database in its folder, and beside that the
artifacts, in the folder :data:`ARTIFACTS_FOLDER`.
"""

PROTOCOL_FILE = "protocol.json"
ALLOCATION_FILE = "allocation.csv"
ASSETS_FILE = "assets.json"
CLASSES_FILE = "classes.csv"
ARTIFACTS_FOLDER = "artifacts"

KIND_TAG = "atat.kind"
KIND_CAMPAIGN, KIND_UNIT = "campaign", "unit"
# A sweep is no trial: an experiment of its own, whose runs have these kinds and the tag that says
# that nothing was randomised. A point has its options as MLflow parameters, else what a unit has.
KIND_SWEEP, KIND_POINT = "sweep", "point"
STOPPED = "stopped"  # status of a point whose training ASHA ended early; it has no outcome
RANDOMISED_TAG, NOT_RANDOMISED = "randomised", "no"

CAMPAIGN_TAGS = (
    "campaign",  # name of the protocol
    "protocol_sha256",  # of the canonical JSON
    "nonce_sha256",  # of what the allocation is drawn from
    "allocation_sha256",  # of the CSV's bytes
    "nonce",  # revealed when every unit has ended; empty before
    "versions",  # JSON: atat-ray, python, torch, ray, mlflow, git commit, machine
    "registered_again",  # where the first record was lost: when it was made anew, in epoch seconds
)
REGISTERED_AGAIN = "registered_again"
VERSIONS = "versions"

# Version of the record's layout; a record of another version is refused.
RECORD_VERSION = "1"
RECORD_VERSION_TAG = "record_version"

# JSON, of units whose training kept models at accuracy thresholds. It is none of UNIT_TAGS, and no
# table has it: when a model was kept was decided after treatment.
SELECTED_TAG = "selected_after_treatment"

UNIT_TAGS = (
    "campaign",
    "unit_id",  # the key everywhere; names the block, never the arm
    "block",
    "arm",
    "status",  # one of STATUSES
    "reason",  # why it failed; empty otherwise
    "start_order",  # realised order of starts in the campaign, from 1
    "node",  # host that ran it
    "device",  # cpu or cuda
    "times_lost",  # how often it was lost with its process or node before it ended
    "failed_before",  # why it failed before it was run again on request; empty otherwise
    "git_commit",  # of the code that ran it
    "evaluation_sha256",  # of the block's evaluation models
    "prior_sha256",  # of the block's priors
)
# On the parent run, written by the report before its page: one tag for every look taken, numbered
# from 1, JSON with ``finished`` (units), ``analysed`` (units) and ``p`` (primary randomisation p or
# null). A single tag for all would be cut off at the 8000 characters that MLflow keeps of one.
LOOK_PREFIX = "look/"
REPORT_FOLDER = "report"  # artifacts of the parent run: the latest page and its tables

FINISHED, FAILED, PENDING = "finished", "failed", "pending"
STATUSES = (FINISHED, FAILED, PENDING)

ALLOCATION_COLUMNS = ("unit_id", "block", "arm")

# Columns of the unit table that are the same in every campaign.
CLEAN_ACC = "clean_acc"  # accuracy of the target model on the private test images
TRAIN_ACC = "train_acc"  # accuracy on the private training images, without augmentation
DIVERGED = "diverged"  # 1 where the loss of the target model ended as no number, else 0
SECONDS_PREFIX = "seconds/"  # + stage name: compute time of the stage
ROBUST_PREFIX = "robust_acc/"  # + epsilon: robust accuracy on the private test images
EPOCH_PREFIX = "epoch/"  # + name: one value an epoch

# One of each for every inversion attack of the protocol: f"{inversion}/{name}".
INVERSION_OUTCOMES = {
    "att_acc_1": "share of reconstructions that the evaluation models give the target class",
    "att_acc_5": "share whose target class is among the evaluation models' five most likely",
    "lda_att_acc_1": "AttAcc@1 by the second kind of evaluator (shrinkage LDA on small images)",
    "lda_att_acc_5": "AttAcc@5 by the second kind of evaluator",
    "delta_eval": "mean distance to the nearest training image of the class, evaluation features",
    "target_confidence": "mean probability of the target class under the target model",
    "evaluation_confidence": "mean probability of the target class under the evaluation models",
}

# Columns of the class table (CLASSES_FILE), one row a unit, inversion attack and class.
CLASS_COLUMNS = (
    "inversion",
    "class",  # the person
    "n",  # reconstructions scored
    "k_1",  # of these, first by the evaluation models
    "k_5",  # of these, among their first five
    "lda_k_1",
    "lda_k_5",
)

PICTURES_FOLDER = "pictures"  # <inversion>.png: first row reconstructions, second row the nearest
# training image of the same class, one column a class in class order, gray or RGB, 8 bit.


def look_tag(number: int) -> str:
    """Name the tag of a look: ``look/0003``."""
    return f"{LOOK_PREFIX}{number:04d}"
