"""What pydantic finds wrong with a value, in the language that is spoken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koseki_ops.core.language import N_, _

# pydantic's own sentences, by the type of the error: those that values of ours can meet.
SENTENCES = {
    "bool_type": N_("Input should be a valid boolean"),
    "dict_type": N_("Input should be a valid dictionary"),
    "float_type": N_("Input should be a valid number"),
    "greater_than": N_("Input should be greater than {gt}"),
    "greater_than_equal": N_("Input should be greater than or equal to {ge}"),
    "int_from_float": N_("Input should be a valid integer, got a number with a fractional part"),
    "int_parsing": N_("Input should be a valid integer, unable to parse string as an integer"),
    "int_type": N_("Input should be a valid integer"),
    "less_than": N_("Input should be less than {lt}"),
    "less_than_equal": N_("Input should be less than or equal to {le}"),
    "list_type": N_("Input should be a valid list"),
    "literal_error": N_("Input should be {expected}"),
    "model_attributes_type": N_(
        "Input should be a valid dictionary or object to extract fields from"
    ),
    "model_type": N_("Input should be a valid dictionary or instance of {class_name}"),
    "string_pattern_mismatch": N_("String should match pattern '{pattern}'"),
    "string_type": N_("Input should be a valid string"),
    "tuple_type": N_("Input should be a valid tuple"),
}
OF_OURS = "Value error, "


def fault_of(item: Mapping[str, Any]) -> str:
    """Return the sentence of one of a ValidationError's errors.

    One that a validator of ours raised is in the language already; one that is not known here, or
    that pydantic words in several ways, stays as pydantic has it.
    """
    sentence = str(item["msg"])
    template = SENTENCES.get(item["type"], "")
    values = item.get("ctx", {})
    if template and template.format(**values) == sentence:
        return _(template).format(**values)
    return sentence.removeprefix(OF_OURS)
