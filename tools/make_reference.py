"""Writes the generated pages of docs/: docs/api.md from the protos' comments, docs/cli.md from the command's own help,
the tables of docs/settings.md from the settings classes.

python tools/make_reference.py          # write them
python tools/make_reference.py --check  # exit 1 where they are not what the code says
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
_TYPES = {value: name.removeprefix("TYPE_").lower() for name, value in FieldDescriptorProto.Type.items()}
Comments = dict[tuple[int, ...], str]


def main() -> None:
    """Write or check."""
    pages = {
        ROOT / "docs/api.md": api_page(),
        ROOT / "docs/cli.md": cli_page(),
        ROOT / "docs/settings.md": settings_page((ROOT / "docs/settings.md").read_text()),
    }
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in pages.items() if not path.is_file() or path.read_text() != text]
        sys.exit(f"not what the code says: {', '.join(stale)}; run make docs" if stale else 0)
    for path, text in pages.items():
        path.write_text(text)


def api_page() -> str:
    """The contract: services first, then messages and enums, file by file."""
    lines = ["# The contract", "", "Generated from the comments of `proto/geofix/v1`. gRPC, package `geofix.v1`.", ""]
    for file in _files():
        comments = _comments(file)
        for index, service in enumerate(file.service):
            lines += _service(service, comments, (6, index))
    for file in _files():
        comments = _comments(file)
        lines += [f"## {file.name.removeprefix('geofix/v1/')}", ""]
        for index, message in enumerate(file.message_type):
            lines += _message(message, comments, (4, index))
        for index, enum in enumerate(file.enum_type):
            lines += _enum(enum, comments, (5, index))
    return "\n".join(lines).rstrip() + "\n"


def cli_page() -> str:
    """Every command with its arguments, options and examples."""
    from geofix.cli.app import app

    group: Any = typer.main.get_command(app)
    lines = ["# The command line", "", "Generated from `geofix --help`.", "", group.help, "", group.epilog, ""]
    lines += ["`geofix --install-completion` teaches your shell the commands and options.", ""]
    for path, command in _commands(group, "geofix"):
        lines += [f"## {path}", "", *_paragraphs(command.help or ""), ""]
        rows = [row for parameter in command.params if (row := _parameter(parameter))]
        if rows:
            lines += ["| | |", "|---|---|", *rows, ""]
        if command.epilog:
            lines += ["```sh", *[line for line in command.epilog.split("\n\n") if line != "Examples:"], "```", ""]
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def settings_page(text: str) -> str:
    """The page with its tables made anew, between the marks that name them; what stands around them is written by hand."""
    tables = _settings_tables()

    def table(found: re.Match[str]) -> str:
        return f"<!-- settings: {found[1]} -->\n{tables[found[1]]}<!-- end -->"

    return re.sub(r"<!-- settings: ([a-z ]+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def _settings_tables() -> dict[str, str]:
    from geofix.access import AccessSettings
    from geofix.settings import ModelSettings, ServiceSettings
    from geofix_classifier.settings import ClassifierSettings
    from geofix_embedder.settings import EmbedderSettings
    from geofix_gateway.settings import GatewaySettings
    from geofix_retrieval.settings import RetrievalSettings
    from geofix_web.settings import WebSettings

    of_models = {**ClassifierSettings.model_fields, **EmbedderSettings.model_fields, **ModelSettings.model_fields}
    whole = {
        "all services": ServiceSettings.model_fields,
        "access": AccessSettings.model_fields,
        "models": of_models,
        "retrieval": RetrievalSettings.model_fields,
        "gateway": GatewaySettings.model_fields,
        "web": WebSettings.model_fields,
    }
    tables, before = {}, set[str]()
    for name, fields in whole.items():
        rows = [_setting(each, field) for each, field in fields.items() if each not in before]
        tables[name] = "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows, ""])
        before |= fields.keys()
    return tables


def _setting(name: str, field: FieldInfo) -> str:
    default = field.default
    if field.is_required():
        shown = "required"
    elif isinstance(default, bool):
        shown = str(default).lower()
    elif isinstance(default, (int, float)):
        shown = f"{default:.12g}"
    else:
        shown = str(default or "") or "empty"
    return f"| `GEOFIX_{name.upper()}` | {shown} | {_cell(field.description or '')} |"


def _comments(file: FileDescriptorProto) -> Comments:
    return {tuple(at.path): at.leading_comments.strip() for at in file.source_code_info.location}


def _files() -> list[FileDescriptorProto]:
    protos = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "proto/geofix/v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "set"
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-Iproto",
            "--include_source_info",
            f"--descriptor_set_out={out}",
        ]
        subprocess.run([*command, *protos], cwd=ROOT, check=True)
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def _service(service: ServiceDescriptorProto, comments: Comments, at: tuple[int, ...]) -> list[str]:
    lines = [f"## {service.name}", "", _line(comments[at]), "", "| RPC | takes | answers | |", "|---|---|---|---|"]
    for index, method in enumerate(service.method):
        takes, answers = method.input_type.rpartition(".")[2], method.output_type.rpartition(".")[2]
        lines.append(f"| `{method.name}` | {_link(takes)} | {_link(answers)} | {_cell(comments[(*at, 2, index)])} |")
    return [*lines, ""]


def _message(message: DescriptorProto, comments: Comments, at: tuple[int, ...]) -> list[str]:
    lines = [f"### {message.name}", "", _line(comments[at]), ""]
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    if message.field:
        lines += ["| field | type | |", "|---|---|---|"]
    for index, field in enumerate(message.field):
        lines.append(f"| `{field.name}` = {field.number} | {_type(field, maps)} | {_cell(comments[(*at, 2, index)])} |")
    return [*lines, ""] if message.field else lines


def _enum(enum: EnumDescriptorProto, comments: Comments, at: tuple[int, ...]) -> list[str]:
    lines = [f"### {enum.name}", "", _line(comments[at]), "", "| value | |", "|---|---|"]
    for index, value in enumerate(enum.value):
        lines.append(f"| `{value.name}` = {value.number} | {_cell(comments[(*at, 2, index)])} |")
    return [*lines, ""]


def _type(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    name = field.type_name.rpartition(".")[2]
    if name in maps:
        key, value = (_type(part, {}) for part in maps[name].field)
        return f"map of {key} to {value}"
    shown = _TYPES[field.type] if not name else _link(name) if field.type_name.startswith(".geofix.") else f"`{name}`"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {shown}"
    return f"optional {shown}" if field.proto3_optional else shown


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _parameter(parameter: Any) -> str | None:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return None
    if parameter.param_type_name == "argument":
        return f"| `{parameter.metavar or parameter.name.upper()}` | {_cell(parameter.help or '')} |"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    metavar = f" {parameter.metavar}" if parameter.metavar else ""
    default = parameter.default
    says = [_cell(parameter.help or "")]
    if default not in (None, False, True, (), "") and parameter.show_default:
        says.append(f"Default: {default}.")
    if parameter.envvar:
        says.append(f"Or `${parameter.envvar}`.")
    return f"| {names}{metavar} | {' '.join(filter(None, says))} |"


def _paragraphs(text: str) -> list[str]:
    return [line for paragraph in text.split("\n\n") for line in (_line(paragraph), "")]


def _line(text: str) -> str:
    """One line; what looks like HTML is text."""
    return " ".join(text.split()).replace("<", "&lt;") if "`" not in text else " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


if __name__ == "__main__":
    main()
