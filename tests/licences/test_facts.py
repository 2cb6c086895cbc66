"""The data of licences: well-formed, sourced, unambiguous, and what the lists of the Hub and of SPDX have."""

from __future__ import annotations

import json
from importlib import resources
from typing import get_args

import pytest

from lineage_plugin.licences.facts import (
    LICENCE_CLASSES,
    Kind,
    families,
    family_licence,
    find,
    is_spdx,
    licences,
    lookup_key,
    stated,
)

_HUB = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 pddl postgresql unlicense wtfpl zlib
"""
"""The ids of https://huggingface.co/docs/hub/repositories-licenses, without ``unknown`` and ``other``."""


def _spdx() -> list[str]:
    schema = resources.files("cyclonedx") / "schema" / "_res" / "spdx.SNAPSHOT.schema.json"
    ids: list[str] = json.loads(schema.read_text(encoding="utf-8"))["enum"]
    return ids


def test_every_fact_has_a_clause_and_a_source() -> None:
    for licence in licences().values():
        assert licence.kind in LICENCE_CLASSES, licence.id
        assert licence.url.startswith("https://"), licence.id
        for fact in licence.facts:
            assert fact.kind in get_args(Kind), (licence.id, fact)
            assert fact.clause and fact.says and fact.url.startswith("https://"), (licence.id, fact)
            assert fact.says[0].islower() and not fact.says.endswith("."), (licence.id, fact)
            assert (fact.kind == "share-alike") == bool(fact.under), (licence.id, fact)
            assert set(fact.under) <= set(licences()), (licence.id, fact)
            assert (fact.kind == "name") == (fact.prefix is not None), (licence.id, fact)
            assert fact.kind != "display" or fact.phrases, (licence.id, fact)


def test_a_licence_that_was_not_read_makes_no_claims_on_derivatives() -> None:
    for licence in licences().values():
        assert licence.read or all(fact.kind == "copy" for fact in licence.facts), licence.id


def test_the_files_are_sorted() -> None:
    assert list(licences()) == sorted(licences())
    patterns = [family.pattern for family in families()]
    assert patterns == sorted(patterns, key=str.casefold) and len(set(patterns)) == len(patterns)
    for licence in licences().values():
        assert list(licence.aliases) == sorted(licence.aliases)


def test_no_spelling_means_two_licences() -> None:
    meant: dict[str, str] = {}
    for licence in licences().values():
        for spelling in {lookup_key(licence.id), *licence.aliases}:
            assert lookup_key(spelling) == spelling
            assert meant.setdefault(spelling, licence.id) == licence.id, spelling


def test_the_hub_knows_the_ids() -> None:
    assert sorted(licence.id for licence in licences().values() if licence.hub) == _HUB.split()


def test_spdx_knows_the_identifiers() -> None:
    ids = _spdx()
    for licence in licences().values():
        assert licence.spdx is None or licence.spdx in ids, licence.id
    assert all(is_spdx(id) for id in ids) and is_spdx("0bsd") and not is_spdx("llama3.1")


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("apache-2.0", "apache-2.0"),
        ("Apache 2.0", "apache-2.0"),
        ("apache2", "apache-2.0"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("MIT License", "mit"),
        ("llama-3.1", "llama3.1"),
        ("Llama 3.1 Community License Agreement", "llama3.1"),
        ("llama3", "llama3"),
        ("CC-BY-NC-4.0", "cc-by-nc-4.0"),
        ("CC BY-NC 4.0", "cc-by-nc-4.0"),
        ("GPLv3", "gpl-3.0"),
        ("qwen-research", "qwen-research"),
        ("Tongyi-Qianwen", "tongyi-qianwen"),
        ("gemma-terms-of-use", "gemma"),
        ("cc-by-nc", None),
        ("mine", None),
        ("", None),
        ("-", None),
        ("license", None),
        ("apache-2.0" * 10_000, None),
        ("\x00\ud800", None),
        (None, None),
    ],
)
def test_a_licence_is_found_by_its_spellings(text: str | None, id: str | None) -> None:
    found = find(text)
    assert (found.id if found else None) == id


def test_a_name_counts_only_beside_other() -> None:
    assert stated("other", "qwen") is find("qwen")
    assert stated("Other", "Qwen-Research") is find("qwen-research")
    assert stated("mit", "qwen") is find("mit")
    assert stated("other") is stated(None, "qwen") is stated("unknown") is None


def test_every_family_has_a_licence_and_a_source() -> None:
    for family in families():
        assert family.licence in licences(), family
        assert family.source.startswith("https://"), family
        owner = family.pattern.split("/")[0]
        assert "*" not in owner, family


@pytest.mark.parametrize(
    ("model", "licence"),
    [
        ("meta-llama/Llama-2-7b-hf", "llama2"),
        ("meta-llama/Meta-Llama-3-8B", "llama3"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama3.1"),
        ("meta-llama/llama-3.2-1b", "llama3.2"),
        ("Qwen/Qwen2.5-7B-Instruct", "apache-2.0"),
        ("Qwen/Qwen2.5-3B-Instruct", "qwen-research"),
        ("Qwen/Qwen2.5-32B", "apache-2.0"),
        ("Qwen/Qwen2.5-72B", "qwen"),
        ("Qwen/Qwen2-72B", "tongyi-qianwen"),
        ("google/gemma-2-9b-it", "gemma"),
        ("google/gemma-4-e4b", "apache-2.0"),
        ("openai/whisper-large-v3", "apache-2.0"),
        ("openai/whisper-large-v3-turbo", "mit"),
        ("mistralai/Mistral-Small-Instruct-2409", "mrl"),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "apache-2.0"),
        ("deepseek-ai/DeepSeek-V2-Lite", "deepseek"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", None),
        ("bigscience/bloomz-560m", "bigscience-bloom-rail-1.0"),
        ("black-forest-labs/FLUX.1-schnell", "apache-2.0"),
        ("THUDM/glm-4-9b-chat", "glm-4"),
        ("THUDM/GLM-4-9B-0414", None),
        ("HuggingFaceH4/zephyr-7b-beta", "mit"),
        ("HuggingFaceH4/zephyr-7b-gemma-v0.1", None),
        ("stabilityai/stable-diffusion-xl-base-1.0", "openrail++"),
        ("stabilityai/stable-diffusion-xl-base-0.9", None),
        ("facebook/wav2vec2-base-10k-voxpopuli", None),
        ("google-bert/bert-base-german-cased", None),
        ("someone/Llama-3.1-8B", None),
        ("meta-llama/Llama-3.1-8B/extra", None),
        ("gpt2", "mit"),
        ("*" * 100_000, None),
    ],
)
def test_a_base_is_known_by_its_id(model: str, licence: str | None) -> None:
    found = family_licence(model)
    assert (found.licence if found else None) == licence
