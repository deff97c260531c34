"""A unit's folder keeps what each of its processes computed on."""

from atat_ray.unit.computed_on import describe_process, note_process, read_processes
from atat_ray.utils.messages import lines_to


def test_each_kind_of_process_is_kept_once(tmp_path):
    here = describe_process()
    elsewhere = {**here, "instruction_set": "AVX2"}
    assert read_processes(tmp_path) == []
    for described in (here, elsewhere, here):
        note_process(tmp_path, described)
    found = read_processes(tmp_path)
    assert len(found) == 2
    assert here in found
    assert elsewhere in found


def test_a_damaged_file_counts_as_missing_and_is_named(tmp_path):
    note_process(tmp_path, {"threads": "1"})
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace('"1"', '"2"'))
    lines = []
    with lines_to(lines.append):
        assert read_processes(tmp_path) == []
    assert len(lines) == 1
    assert file.name in lines[0]
