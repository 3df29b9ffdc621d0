"""The command line's frame: quick help, documented commands, errors in one line."""

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import click
import pytest

from upnext import errors
from upnext.cli import main
from upnext.cli.main import COMMANDS, LazyGroup, cli

ROOT = Path(main.__file__).parents[2]
HELP_S = 0.5
SLOW_MACHINE = 4.0
"""How many times slower than a desk's machine a loaded one may be."""


def upnext(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UPNEXT_")} | variables
    script = "import sys; sys.argv[0] = 'upnext'; from upnext.cli.main import main; main()"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


def test_help_comes_at_once() -> None:
    seconds = []
    for _ in range(3):
        start = perf_counter()
        done = upnext("--help")
        seconds.append(perf_counter() - start)
        assert done.returncode == 0
    assert min(seconds) < HELP_S * SLOW_MACHINE
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    heavy = ["numpy", "pandas", "pyarrow", "pydantic", "torch", "sqlalchemy", "mlflow", "rich"]
    script = f"""
import sys
from upnext.cli.main import cli
cli(["--help"], standalone_mode=False)
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(f"upnext {name}" in page.read_text() for page in pages), f"no page tells of `upnext {name}`"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_its_help(name: str) -> None:
    group = cli
    assert isinstance(group, LazyGroup)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.help, f"upnext {name} has no help"
    commands = [command, *command.commands.values()] if isinstance(command, click.Group) else [command]
    for one in commands:
        options = [parameter for parameter in one.params if isinstance(parameter, click.Option)]
        silent = [option.name for option in options if not option.help]
        untold = [name for name in silent if str(name).upper() not in str(one.help)]
        assert not untold, f"upnext {one.name} tells nothing about {untold}"


def test_an_unknown_command_is_told() -> None:
    done = upnext("recommand")
    assert (done.returncode, done.stdout) == (2, "")
    assert "recommand" in done.stderr


def test_an_error_is_one_line_and_an_exit_code() -> None:
    done = upnext("doctor", UPNEXT_PORT="many")
    assert done.returncode == errors.ConfigError.exit_code
    assert done.stdout == ""
    assert done.stderr.startswith("upnext: UPNEXT_PORT is 'many': ")
    assert done.stderr.count("\n") == 1


def test_a_message_of_many_lines_becomes_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(standalone_mode: bool) -> None:
        raise errors.CorruptData("first\n   second\n")

    monkeypatch.setattr(main, "cli", fail)
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == errors.CorruptData.exit_code
    assert capsys.readouterr().err == "upnext: first second\n"


def test_every_error_has_a_status_and_an_exit_code() -> None:
    tree = [each for each in vars(errors).values() if isinstance(each, type)]
    assert all(issubclass(error, errors.UpnextError) for error in tree)
    assert all(400 <= error.status < 600 and 0 < error.exit_code < 128 for error in tree)
    assert all(
        f"── {error.__name__} " in str(errors.__doc__) for error in tree if error is not errors.UpnextError
    )
