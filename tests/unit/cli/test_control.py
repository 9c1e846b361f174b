"""The kill switch is found at once, whatever else is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import control
from pipeline.execute.switch import pause_in_force
from pipeline.rulebook.config_spec import Config


def test_the_default_folder_is_that_of_the_configuration():
    assert Config.model_fields["data_dir"].default == control.DATA_DIR


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("data_dir: state\n", "state", id="as-written"),
        pytest.param("inputs: []\n", ".reflexarc", id="default"),
        pytest.param("data_dir: state\nkafka: {bootstrap: '${env:REFLEXARC_NOT_SET}'}\nrulez: 5\n", "state", id="the-rest-is-wrong"),
    ],
)
def test_the_folder_is_found_relative_to_the_configuration(tmp_path, text, expected):
    (tmp_path / "reflexarc.yaml").write_text(text)
    assert control.data_dir(tmp_path / "reflexarc.yaml") == tmp_path / expected


def test_a_folder_that_the_environment_names_is_found_too(tmp_path, monkeypatch):
    monkeypatch.setenv("REFLEXARC_TEST_DATA", str(tmp_path / "elsewhere"))
    (tmp_path / "reflexarc.yaml").write_text("data_dir: ${env:REFLEXARC_TEST_DATA}\n")
    assert control.data_dir(tmp_path / "reflexarc.yaml") == tmp_path / "elsewhere"


@pytest.mark.parametrize("text", [None, "a: [\n", "- list\n"], ids=["missing", "broken", "no-mapping"])
def test_a_configuration_that_cannot_be_read_is_an_error_with_its_name(tmp_path, capsys, text):
    path = tmp_path / "reflexarc.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as end:
        control.data_dir(path)
    assert end.value.code == 1
    assert str(path) in capsys.readouterr().err


def test_the_switch_is_thrown_before_the_pipeline_is_loaded(tmp_path):
    """Loading it takes seconds on a machine in trouble."""
    (tmp_path / "reflexarc.yaml").write_text("data_dir: state\n")
    program = "import sys; from pipeline.cli import control; control._announce = lambda *_: 'pipeline.app' in sys.modules; from pipeline.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "pause", "--json", "--config", str(tmp_path / "reflexarc.yaml")], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert '"announced": false' in done.stdout
    assert pause_in_force(tmp_path / "state") is not None
