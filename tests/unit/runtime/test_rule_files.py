"""Which files of a folder are rules, and what cannot be read."""

from pathlib import Path

import pytest

from pipeline.runtime.rule_files import UnreadableError, read_rule_files, secret_reader


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_rules_are_found_below_a_folder_without_tests_hidden_files_and_the_configuration(tmp_path: Path):
    write(tmp_path, "b.yml", "a/x.yaml", "a/x.test.yaml", "a/x_test.yml", ".git/c.yaml", "a/.x.yaml", "reflexarc.yaml", "README.md", "a/d.yaml.bak")
    assert list(read_rule_files([tmp_path])) == [str(tmp_path / "a/x.yaml"), str(tmp_path / "b.yml")]


def test_a_file_that_is_named_is_read_whatever_it_is_called_and_once(tmp_path: Path):
    write(tmp_path, "rules.txt", "b.yaml")
    files = read_rule_files([tmp_path / "rules.txt", tmp_path, tmp_path / "b.yaml"])
    assert files == {str(tmp_path / "b.yaml"): "b.yaml", str(tmp_path / "rules.txt"): "rules.txt"}


def test_what_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(UnreadableError, match=r"nowhere\.yaml: No such file"):
        read_rule_files([tmp_path / "nowhere.yaml"])
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(UnreadableError, match=r"latin\.yaml: not UTF-8 \(byte 3\)"):
        read_rule_files([tmp_path])


def test_secrets_come_from_the_environment_and_from_files_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, "key")
    (tmp_path / "key").write_text("abc\n")
    monkeypatch.setenv("SOME_TOKEN", "xyz")
    read = secret_reader(tmp_path)
    assert (read("env", "SOME_TOKEN"), read("file", "key"), read("file", "other"), read("env", "NOT_SET_ANYWHERE")) == ("xyz", "abc", None, None)
