"""Tables of a TOML file as validated objects, and their mistakes as one readable line."""

import math
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from engine.errors import InvalidInput
from engine.network.network import hint


class Table(BaseModel):
    """A TOML table with known keys: frozen, and a misspelt key is refused with the nearest one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key '{key}'{hint(str(key), cls.model_fields)}")
        return data

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file.

        Raises:
            InvalidInput: no such file, not TOML, or a wrong key or value: the first mistake.
        """
        file = Path(path)
        try:
            data = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InvalidInput(f"{file}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{file}: cannot be read ({_one_line(error)})") from None
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"{file}: not TOML: {_one_line(error)}") from None
        return cls.parsed(data, str(file))

    @classmethod
    def parsed(cls, data: Any, where: str) -> Self:
        """Validate a dictionary; `where` begins the message.

        Raises:
            InvalidInput: the first mistake, with its key path, value and what to give instead.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InvalidInput(f"{where}: {_first_mistake(error)}") from None


def _first_mistake(error: ValidationError) -> str:
    # An unknown key explains a missing one, so it comes first.
    mistakes = sorted(error.errors(), key=lambda e: "unknown key" not in str(e["msg"]))
    first = mistakes[0]
    path = _path(first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "missing":
        return f"{path} is missing; give it"
    if first["type"] == "value_error":
        return f"{path}: {message}" if path else message
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        known = first["ctx"].get("expected_tags", "log_normal, normal, uniform or constant")
        return f"{path}.distribution = {_shown(first)}: give one of {known}"
    return f"{path} = {_shown(first)}: give {message[0].lower()}{message[1:]}"


def _shown(mistake: Any) -> str:
    given = mistake["input"]
    if isinstance(given, dict):
        given = given.get("distribution", given)
    text = repr(given)
    return text if len(text) <= 60 else text[:57] + "..."


_TAGS = frozenset({"log_normal", "normal", "uniform", "constant"})


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in _TAGS:  # pydantic puts the kind of a distribution into the path
            text += f".{part}" if text else part
    return text


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def to_toml(data: dict[str, Any]) -> str:
    """A dictionary of numbers, text, lists, tables and lists of tables as TOML."""
    return "\n".join(_lines(data, "")).strip() + "\n"


def _lines(data: dict[str, Any], prefix: str) -> list[str]:
    lines, later = [], []
    for key, value in data.items():
        name = f"{prefix}{_key(key)}"
        if isinstance(value, dict):
            later += ["", f"[{name}]", *_lines(value, f"{name}.")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                later += ["", f"[[{name}]]", *_lines(item, f"{name}.")]
        elif value is not None:
            lines.append(f"{_key(key)} = {_value(value)}")
    return lines + later


def _key(key: str) -> str:
    is_bare = bool(key) and all(c.isascii() and (c.isalnum() or c in "_-") for c in key)
    return key if is_bare else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    escaped = "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped)
    return f'"{escaped}"'
