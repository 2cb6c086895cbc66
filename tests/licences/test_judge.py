"""What goes with what, clause by clause."""

from __future__ import annotations

import pytest

from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.licences import Ancestor, find, judge
from lineage_plugin.licences.chain import ancestors
from lineage_plugin.licences.judge import worst
from lineage_plugin.licences.seen import begins_so, mentions, plain_text, sentences, shows


def _base(licence: str | None, name: str | None = None) -> Ancestor:
    return Ancestor("owner/base", licence, name)


@pytest.mark.parametrize(
    ("licence", "relation", "base", "verdict", "clause"),
    [
        ("mit", "finetune", "apache-2.0", "compatible", None),
        ("gpl-3.0", "finetune", "mit", "compatible", None),
        ("cc-by-nc-4.0", "merge", "apache-2.0", "compatible", None),
        ("apache-2.0", "finetune", "cc-by-4.0", "compatible", None),
        (None, "finetune", "mit", "compatible", None),
        ("llama3.1", "finetune", "llama3.1", "needs action", None),
        ("gemma", "quantized", "gemma", "needs action", None),
        ("apache-2.0", "finetune", "llama3.1", "incompatible", "1.b.i and 1.b.iv"),
        ("apache-2.0", "adapter", "llama2", "incompatible", "1.b.i and 1.b.iv"),
        ("mit", "quantized", "gemma", "incompatible", "3.1 and 3.2"),
        ("mit", "finetune", "bigcode-openrail-m", "incompatible", "5.1 and Attachment A"),
        ("mit", "adapter", "creativeml-openrail-m", "incompatible", "4(a) and 5"),
        ("mit", "finetune", "deepseek", "incompatible", "4(a) and 5"),
        ("apache-2.0", "finetune", "cc-by-nc-4.0", "incompatible", "2(a)(1)"),
        ("creativeml-openrail-m", "adapter", "cc-by-nc-4.0", "incompatible", "2(a)(1)"),
        ("cc-by-4.0", "finetune", "cc-by-sa-4.0", "incompatible", "3(b)(1)"),
        ("gpl-3.0", "finetune", "cc-by-sa-4.0", "needs action", "3(b)(1)"),
        ("cc-by-sa-4.0", "finetune", "cc-by-sa-3.0", "needs action", "4(b)"),
        ("cc-by-nc-sa-4.0", "finetune", "cc-by-nc-4.0", "needs action", "2(a)(1)"),
        ("cc-by-nc-4.0", "finetune", "cc-by-nc-sa-4.0", "incompatible", "3(b)(1)"),
        ("llama3.1", "merge", "cc-by-sa-4.0", "ask a lawyer", "3(b)(1)"),
        ("mit", "merge", "gpl-3.0", "incompatible", "5(c) and 13"),
        ("agpl-3.0", "merge", "gpl-3.0", "needs action", "5(c) and 13"),
        ("gpl-3.0", "merge", "gpl-2.0", "ask a lawyer", "2(b)"),
        ("cc-by-nd-4.0", "finetune", "cc-by-nd-4.0", "incompatible", "2(a)(1)(B)"),
        ("cc-by-nd-4.0", "quantized", "cc-by-nd-4.0", "ask a lawyer", "2(a)(1)(B)"),
        ("apache-2.0", "finetune", "qwen", "needs action", "3(d)"),
        ("apache-2.0", "finetune", "qwen-research", "incompatible", "2(a) and 2(b)"),
        ("cc-by-nc-4.0", "finetune", "qwen-research", "needs action", "2(a) and 2(b)"),
        ("apache-2.0", "finetune", "mrl", "incompatible", "3.2"),
        ("llama3", "finetune", "llama3.1", "ask a lawyer", "1.b.i and 1.b.iv"),
        ("cc-by-nc-4.0", "finetune", "llama3.1", "ask a lawyer", "1.b.i and 1.b.iv"),
        ("openrail", "adapter", "creativeml-openrail-m", "ask a lawyer", None),
        ("mit", "finetune", "jamba-open-model-license", "ask a lawyer", None),
        ("mit", "finetune", "some-licence", "ask a lawyer", None),
        ("mit", "finetune", None, "ask a lawyer", None),
        (None, "finetune", "gemma", "ask a lawyer", None),
    ],
)
def test_a_pair(licence: str | None, relation: str, base: str | None, verdict: str, clause: str | None) -> None:
    (judgement,) = judge(find(licence), relation, [_base(base)])
    assert judgement.verdict == verdict, judgement.reason
    assert (judgement.source and judgement.source.clause) == clause
    assert judgement.reason and not judgement.reason.endswith(".")


def test_a_licence_beside_other_is_known_by_its_name() -> None:
    (judgement,) = judge(find("mit"), None, [_base("other", "Qwen-Research")])
    assert judgement.verdict == "incompatible"


def test_a_merge_takes_the_duties_of_all_parents() -> None:
    judgements = judge(find("llama3.1"), "merge", [_base("llama3.1"), _base("mit"), _base("qwen")])
    kinds = [{duty.kind for duty in judgement.duties} for judgement in judgements]
    assert {"copy", "display", "name", "notice"} <= kinds[0] and kinds[1] == {"copy"} and "display" in kinds[2]
    assert worst(judgements) == "needs action"
    assert worst([]) == "compatible"
    assert worst(judge(find("mit"), "merge", [_base("llama3.1"), _base(None)])) == "incompatible"


def test_a_quantised_copy_needs_no_new_name() -> None:
    (quantised,) = judge(find("llama3.1"), "quantized", [_base("llama3.1")])
    assert {duty.kind for duty in quantised.duties} >= {"copy", "display"}
    assert not any(duty.kind == "name" for duty in quantised.duties)


def _model(id: str, licence: str | None, *bases: str) -> HubModel:
    return HubModel(id, "found", id=id, licence=licence, bases=bases)


def test_the_chain_on_the_hub_is_followed_and_ends() -> None:
    rows = [_model("a/b", "mit", "c/d"), _model("c/d", None, "e/f", "A/b"), _model("e/f", "gemma", "e/f")]
    hub = {model.id: model for model in rows}
    chain = ancestors(["a/b"], hub)
    assert [(m.id, m.licence, m.known_by, m.via) for m in chain] == [
        ("a/b", "mit", "the Hub", None),
        ("c/d", None, "its id", "a/b"),
        ("e/f", "gemma", "the Hub", "a/b"),
    ]


def test_a_chain_without_end_is_cut() -> None:
    class Endless(dict[str, HubModel]):
        def get(self, key: str, default: object = None) -> HubModel:  # type: ignore[override]
            return _model(key, "mit", key + "x")

        def __bool__(self) -> bool:
            return True

    assert 1 < len(ancestors(["a/b"], Endless())) <= 256


def test_the_id_stands_in_where_the_hub_says_nothing() -> None:
    unknown = HubModel("google/gemma-2-2b", "unknown", problem="no connection")
    (model,) = ancestors(["google/gemma-2-2b"], {"google/gemma-2-2b": unknown})
    assert (model.licence, model.known_by) == ("gemma", "its id")
    assert ancestors(["some/one"]) == ()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Built with Llama", True),
        ("**built with  llama 3.1**", True),
        ("[Built with <b>Llama</b>](https://llama.com)", True),
        ("Built with [Meta Llama 3](https://x.org/a)", True),
        ("Built&nbsp;with&nbsp;Llama", True),
        ("![](https://img.shields.io/badge/Built%20with-Llama-blue)", True),
        ("_Built_ with\nLlama!", True),
        ("<!-- Built with Llama -->", False),
        ("Built with care", False),
        ("rebuilt with llama", False),
        ("", False),
    ],
)
def test_honest_variants_of_the_wording_count(text: str, shown: bool) -> None:
    licence = find("llama3.1")
    fact = None if licence is None else licence.fact("display")
    assert fact is not None and shows(plain_text(text), fact) is shown


@pytest.mark.parametrize(
    ("licence", "text", "named"),
    [
        ("gemma", "The weights are subject to the Gemma license.", True),
        ("gemma", "Use falls under the\nGemma **Terms of Use**", True),
        ("gemma", "under the terms of Gemma", True),
        ("gemma", "see [the terms](https://ai.google.dev/gemma/terms)", True),
        ("gemma", "You may not use it unless you accept the Gemma Terms of Use.", True),
        ("gemma", "Not only the Gemma license applies.", True),
        ("gemma", "We do not accept the Gemma Terms of Use.", False),
        ("gemma", "This model isn't under the Gemma licence.", False),
        ("gemma", "The Gemma Terms of Use do not apply.", False),
        ("gemma", "A Gemma 2 model.", False),
        ("gemma", "MIT license. Gemma is the base.", False),
        ("gemma", "- **Base:** Gemma\n- **License:** MIT", False),
        ("gemma", "| Base | Gemma | License | MIT |", False),
        ("llama3.1", "They fall under Meta's Llama 3.1 licence.", True),
        ("llama3.1", "LLAMA-3.1 community license", True),
        ("llama3.1", "fine-tuned from Llama 3.1", False),
        ("llama3.1", "the Llama 3 license", False),
        ("cc-by-nc-4.0", "base under CC-BY-NC-4.0", True),
        ("cc-by-nc-4.0", "base under CC BY-NC 4.0!", True),
        ("cc-by-nc-4.0", "base under CC BY-NC-SA 4.0", False),
        ("gpl-3.0", "The base is GPLv3.", True),
        ("flux-1-dev-non-commercial-license", "FLUX.1 [dev] Non-Commercial License", True),
        ("flux-1-dev-non-commercial-license", "a LoRA of FLUX.1-dev", False),
        ("bigscience-bloom-rail-1.0", "a tune of bigscience/bloom", False),
        ("bigscience-bloom-rail-1.0", "BigScience-BLOOM-RAIL-1.0", True),
        ("qwen", "Qwen models", False),
    ],
)
def test_a_text_names_a_licence_in_its_own_words(licence: str, text: str, named: bool) -> None:
    known = find(licence)
    assert known is not None and mentions(sentences(text), known) is named


def test_hostile_text_takes_no_time() -> None:
    gemma = find("gemma")
    assert gemma is not None
    for text in ("no gemma license " * 16_000, "gemma " * 44_000, "\n \n" * 90_000, ". " * 130_000, " " * 260_000):
        mentions(sentences(text), gemma)
    for text in ("<" * 300_000, "<!--" * 100_000, "](" * 200_000, "&" * 300_000, "\x00" * 10, "<a" * 200_000):
        plain_text(text)


@pytest.mark.parametrize(
    ("name", "prefix", "begins"),
    [
        ("me/Llama-3.1-Mine", "Llama", True),
        ("me/llama_mine", "Llama", True),
        ("Meta-Llama-3-8B-mine", "Llama 3", True),
        ("me/Llama3-mine", "Llama 3", True),
        ("me/Llama-mine", "Llama 3", False),
        ("llama/mine", "Llama", False),
        ("me/Mine-Llama", "Llama", False),
        ("me/EXAONE-3.5-mine", "EXAONE", True),
        ("", "Llama", False),
    ],
)
def test_a_name_begins_so(name: str, prefix: str, begins: bool) -> None:
    assert begins_so(name, prefix) is begins
