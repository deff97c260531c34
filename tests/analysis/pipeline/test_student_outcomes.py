"""Outcomes of students are compared where a record has them."""

from analysis.pipeline.primary import _outcomes
from analysis.schema.columns import label, unit_of


def test_outcomes_of_students_follow_those_of_their_inversion():
    columns = ["a/att_acc_1", "a/student_acc", "a/student_agreement", "b/att_acc_1", "clean_acc"]
    assert _outcomes(columns) == columns


def test_outcomes_of_students_have_names_and_percentage_points():
    assert label("a/student_acc") == "clean accuracy of the students (a inversion)"
    expected = "agreement of the students with the target model (a inversion)"
    assert label("a/student_agreement") == expected
    assert unit_of("a/student_acc").name == "pp"
