"""Whatever is wrong around it, a command ends with a sentence and an exit code, never with a traceback."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.cli import COMMANDS, main

READERS = (["incidents", "list"], ["incidents", "show", "x"], ["explain", "x"], ["overrides", "list"], ["overrides", "release", "x"])
COMMANDS_WITH_CONFIG = (
    *READERS,
    ["connectors", "check"],
    ["run"],
    ["config", "check"],
    ["ship", "--topic", "t", "/dev/null"],
    ["ship", "/dev/null"],
    ["query", "up"],
)
NO_YAML = "inputs: [\n"
PAUSED = "paused: nothing is applied from now on (the bus could not be told; the switch works without it); end it with `reflexarc resume`\n"
WRONG_KEY = "data_dir: data\nruls: [x]\n"


@pytest.fixture(autouse=True)
def quiet():
    """Another test of this process may have set up the pipeline's logging, which says on stderr what clients log; commands do not."""
    kept, logging.root.handlers = logging.root.handlers, []
    yield
    logging.root.handlers = kept


def run(words: list[str], config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and everything that was said."""
    try:
        code = main([*words, "--config", str(config)])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 99
    out, err = capsys.readouterr()
    return code, err + out


@pytest.mark.parametrize("words", COMMANDS_WITH_CONFIG, ids=" ".join)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(None, "{config}: No such file", id="missing"),
        pytest.param(NO_YAML, "{config}:2:1: error: not YAML", id="no YAML"),
        pytest.param(WRONG_KEY, "{config}:2:1: error: ruls: unknown key; did you mean 'rules'?", id="wrong key"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str | None, expected: str
):
    config = tmp_path / "reflexarc.yaml"
    if text is not None:
        config.write_text(text)
    code, said = run(words, config, capsys)
    assert code == 1
    assert expected.format(config=config) in said
    if words[0] != "config":
        assert said.startswith("reflexarc: ")


@pytest.mark.parametrize("words", READERS, ids=" ".join)
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param("elasticsearch: {hosts: ['http://127.0.0.1:9']}\n", "Elasticsearch does not answer", id="Elasticsearch is away"),
        pytest.param("data_dir: /proc/nowhere\n", "/proc/nowhere", id="a folder that cannot be made"),
        pytest.param("data_dir: garbage\n", "not a database", id="a file that is no database"),
    ],
)
def test_a_store_that_is_away_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], more: str, expected: str):
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "records.sqlite").write_bytes(b"no database" * 500)
    (tmp_path / "reflexarc.yaml").write_text(more)
    code, said = run(words, tmp_path / "reflexarc.yaml", capsys)
    assert code == 1
    assert said.startswith("reflexarc: ")
    assert expected in said


def test_a_bus_that_is_away_does_not_take_the_kill_switch_along(tmp_path: Path):
    """In a process of its own: another test may have set up the pipeline's logging, and this looks at every word on stderr."""
    (tmp_path / "reflexarc.yaml").write_text("data_dir: data\nkafka: {bootstrap: '127.0.0.1:9'}\n")
    words = [sys.executable, "-m", "pipeline", "pause", "--config", str(tmp_path / "reflexarc.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stdout, done.stderr) == (0, PAUSED, "")
    assert (tmp_path / "data" / "paused").exists()


def test_a_switch_that_cannot_be_thrown_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "reflexarc.yaml").write_text("data_dir: /proc/nowhere\n")
    code, said = run(["pause"], tmp_path / "reflexarc.yaml", capsys)
    assert code == 1
    assert "/proc/nowhere" in said


def test_no_command_prints_help_and_is_exit_code_2(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    err = capsys.readouterr().err
    assert all(f"\n  {name} " in err for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: reflexarc {command}")


def test_a_command_that_is_not_there_is_exit_code_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["explian"])
    assert ended.value.code == 2
    assert "explian" in capsys.readouterr().err


def test_the_module_says_its_version():
    done = subprocess.run([sys.executable, "-m", "pipeline", "--version"], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout == f"reflexarc {__version__}\n"
