"""Contract between the record and its analysis: names and units of what MLflow holds.

``trials`` writes what is named here and ``analysis`` reads it; neither imports the other's code.

A campaign is one MLflow *experiment* with one parent run and one child run for each unit.

Parent run: tags ``atat.kind = campaign``, :data:`RECORD_VERSION_TAG` and those in
:data:`CAMPAIGN_TAGS`; artifacts
:data:`PROTOCOL_FILE` (the protocol as canonical JSON) and :data:`ALLOCATION_FILE` (a CSV with the
columns of :data:`ALLOCATION_COLUMNS`, one row for each unit in the order of the draw) and
:data:`ASSETS_FILE` (JSON list: evaluation models and priors of each block, hash and accuracy).

Child run: tags ``atat.kind = unit`` and those in :data:`UNIT_TAGS`; one MLflow metric for each
outcome (step 0), curves as metrics with the prefix ``epoch/`` (step = epoch), artifacts
:data:`CLASSES_FILE` and ``pictures/<inversion>.png``. A unit's run counts once MLflow holds it
as FINISHED or FAILED; until then the unit is pending.

The contrast named ``primary`` decides. The only other contrast in the verdict is ``mechanism``,
which compares the same arm with a second reference. Canonical JSON sorts names, so their order
has no meaning.

All accuracies, confidences and AttAcc are fractions in [0, 1]; distances are unsquared L2 between
unit-norm evaluation features, in [0, 2]; epsilon is an L-infinity radius in pixel units for images
in [0, 1]; durations are seconds.

A campaign that stores its record in its own folder has MLflow's database there, and the artifacts
in :data:`ARTIFACTS_FOLDER` beside it.
"""

PROTOCOL_FILE = "protocol.json"
ALLOCATION_FILE = "allocation.csv"
ASSETS_FILE = "assets.json"
CLASSES_FILE = "classes.csv"
ARTIFACTS_FOLDER = "artifacts"

KIND_TAG = "atat.kind"
KIND_CAMPAIGN, KIND_UNIT = "campaign", "unit"
# A sweep is not a trial: it is an experiment of its own, whose runs have these kinds and the tag
# RANDOMISED_TAG = NOT_RANDOMISED. A point has its options as MLflow parameters, and otherwise the
# contents of a unit.
KIND_SWEEP, KIND_POINT = "sweep", "point"
STOPPED = "stopped"  # status of a point that ASHA stopped early; it has no outcome
RANDOMISED_TAG, NOT_RANDOMISED = "randomised", "no"

CAMPAIGN_TAGS = (
    "campaign",  # name of the protocol
    "protocol_sha256",  # of the canonical JSON
    "nonce_sha256",  # of the nonce from which the allocation is drawn
    "allocation_sha256",  # of the CSV's bytes
    "inputs_sha256",  # of the manifests of all files that the units read
    "inputs",  # JSON: content of data, ImageNet weights and generators, SHA-256 by name
    "nonce",  # published when every unit has ended; empty before
    "versions",  # JSON: atat-ray, python, torch, ray, mlflow, git commit, machine
    "registered_again",  # Unix time at which a lost record was recreated; empty otherwise
)
REGISTERED_AGAIN = "registered_again"
INPUTS = "inputs"
VERSIONS = "versions"

# Version of the record's layout; a record of another version is refused.
RECORD_VERSION = "1"
RECORD_VERSION_TAG = "record_version"

# JSON tag of units whose training saved models at accuracy thresholds. It is not in UNIT_TAGS and
# in no table, because the moment of saving was decided after treatment.
SELECTED_TAG = "selected_after_treatment"

UNIT_TAGS = (
    "campaign",
    "unit_id",  # key of every table; contains the block, never the arm
    "block",
    "arm",
    "status",  # one of STATUSES
    "reason",  # why it failed; empty otherwise
    "start_order",  # order in which units started, from 1
    "node",  # host that ran the unit
    "device",  # cpu or cuda
    # what its stages were computed on; several values if it was resumed elsewhere
    "processor",  # model of the processor
    "instruction_set",  # of the kernels of ATen, and what was set for oneDNN and MKL
    "threads",  # of torch
    "torch",  # version
    "gpu",  # model; none without CUDA
    "times_lost",  # how often its process or node was lost before it ended
    "failed_before",  # reasons of failures before it was run again on request
    "git_commit",  # of the code that ran the unit
    "data_sha256",  # content of the data files that a finished unit has read; empty without files
    "evaluation_sha256",  # content of the evaluation models that measured it
    "prior_sha256",  # content of the priors that its inversion attacks searched
)
# On the parent run, written by the report before its page: one tag for each look, numbered from 1,
# JSON with ``finished`` (units), ``analysed`` (units) and ``p`` (primary randomisation p or null).
# One tag for all looks would be cut off at MLflow's limit of 8000 characters.
LOOK_PREFIX = "look/"
# On the parent run, written by the report of a protocol with claims: one tag for each claim, JSON
# with ``verdict``, ``evidence`` and the number of ``finished`` units that they are based on.
CLAIM_PREFIX = "claim/"
REPORT_FOLDER = "report"  # artifacts of the parent run: the latest page and its tables

FINISHED, FAILED, PENDING = "finished", "failed", "pending"
STATUSES = (FINISHED, FAILED, PENDING)

ALLOCATION_COLUMNS = ("unit_id", "block", "arm")

# Columns of the unit table that are the same in every campaign.
CLEAN_ACC = "clean_acc"  # accuracy of the target model on the private test images
TRAIN_ACC = "train_acc"  # accuracy on the private training images, without augmentation
DIVERGED = "diverged"  # 1 if the loss of the target model was not finite at the end, else 0
SECONDS_PREFIX = "seconds/"  # and the stage: compute time
ROBUST_PREFIX = "robust_acc/"  # and epsilon: robust accuracy on the private test images
BOUNDS_PREFIX = "bounds/"  # and a name of BOUNDS_OUTCOMES, for some and the noise scale
EPOCH_PREFIX = "epoch/"  # and a name: one value for each epoch

# Outcomes of each inversion attack; column f"{inversion}/{name}".
INVERSION_OUTCOMES = {
    "att_acc_1": "share of reconstructions that the evaluation models give the target class",
    "att_acc_5": "share whose target class is among the evaluation models' five most likely",
    "lda_att_acc_1": "AttAcc@1 by the second kind of evaluator (shrinkage LDA on small images)",
    "lda_att_acc_5": "AttAcc@5 by the second kind of evaluator",
    "delta_eval": "mean distance to the nearest training image of the class, evaluation features",
    "target_confidence": "mean probability of the target class under the target model",
    "evaluation_confidence": "mean probability of the target class under the evaluation models",
}

# Bounds on estimating the image given to the target model, of protocols with the key ``bounds``.
# Those of BOUNDS_BY_SCALE have one column for each noise scale: "bounds/eta/0.5". Lengths are in
# pixel units, images in [0, 1]. What is infinite, or too large to compute, has no column.
BOUNDS_OUTCOMES = {
    "deleted_share": "share of the pixels that a mask deletes",
    "infinite_share": "share of the pixels whose largest HCR bound is infinite",
    "deleted_infinite_share": "of the deleted pixels tried, share with an infinite HCR bound",
}
BOUNDS_BY_SCALE = {
    "eta": "Fisher information loss, spectral form, mean over images",
    "inverse_dfil": "1 / dFIL, floor of the mean square error over pixels, mean over images",
    "hcr_sd": "largest HCR bound found of a kept pixel, a standard deviation, median",
    "row_space_sd": "bound within the row space of the Jacobian of a kept pixel, median",
}

# Outcomes of each inversion attack on students, networks distilled from the target model.
STUDENT_OUTCOMES = {
    "student_acc": "accuracy of the students' mean log-softmax on the private test images",
    "student_agreement": "share of held-out samples of the prior, classified as the target does",
}

# Columns of the class table (CLASSES_FILE): one row for each inversion attack and class of a unit.
CLASS_COLUMNS = (
    "inversion",
    "class",  # name of the person, printable: for images in folders that of the folder
    "n",  # reconstructions scored
    "k_1",  # of these, ranked first by the evaluation models
    "k_5",  # of these, among their first five
    "lda_k_1",
    "lda_k_5",
)

PICTURES_FOLDER = "pictures"  # <inversion>.png: first row reconstructions, second row the nearest
# training image of the same class, one column a class in class order, gray or RGB, 8 bit.


def look_tag(number: int) -> str:
    """Name the tag of a look: ``look/0003``."""
    return f"{LOOK_PREFIX}{number:04d}"
