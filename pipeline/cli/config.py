"""`reflexarc config check|schema`: the configuration file and the files it names."""

from __future__ import annotations

import argparse

from pipeline.cli.output import DEFAULT_CONFIG, config_path, print_json
from pipeline.cli.problems import report
from pipeline.rulebook.schema import KINDS


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = subparsers.add_parser("config", help="check a configuration, print its JSON schema")
    commands = parser.add_subparsers(metavar="check|schema", required=True)
    checking = commands.add_parser("check", help="find everything wrong in a configuration and in the rules that it names")
    checking.add_argument("file", metavar="FILE", nargs="?", help=f"default: {DEFAULT_CONFIG}")
    checking.add_argument("--config", metavar="FILE", dest="config", help="the same")
    checking.add_argument("--strict", action="store_true", help="warnings count too")
    checking.add_argument("--json", action="store_true", help="print JSON")
    checking.set_defaults(handler=run_check)
    schema = commands.add_parser("schema", help="print a JSON schema, for completion in editors")
    schema.add_argument("kind", choices=KINDS, nargs="?", default="config")
    schema.set_defaults(handler=run_schema)


def run_check(args: argparse.Namespace) -> int:
    """Print all problems of the configuration; when it can be read, also those of its rule files against it."""
    from pipeline.app.settings import SettingsError, check_rules, load_config
    from pipeline.runtime.rule_files import UnreadableError

    path = config_path(args.file or args.config)
    try:
        problems = check_rules(load_config(path)).problems
    except SettingsError as error:
        return report(error.problems, as_json=args.json, strict=args.strict, summary=str(path))
    except UnreadableError as error:
        return report([str(error)], as_json=args.json, strict=args.strict, summary=str(path))
    return report(problems, as_json=args.json, strict=args.strict, summary=f"{path} and its rules")


def run_schema(args: argparse.Namespace) -> int:
    """Print the schema."""
    from pipeline.rulebook.schema import schema

    print_json(schema(args.kind))
    return 0
