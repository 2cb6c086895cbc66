"""LIN206 on cards as people write them: honest ones, wrong ones, hostile ones."""

from __future__ import annotations

import pytest

from lineage_plugin.card import read_card
from lineage_plugin.card.beside import Beside
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.findings import Finding
from lineage_plugin.fixes import RenameKey, SetItem, SetKey

FILES = ("LICENSE", "README.md", "config.json", "model.safetensors")
NO_LICENCE = ("README.md", "config.json", "model.safetensors")
DEEPSEEK = "DeepSeek-R1-Distill-Llama-8B is derived from Llama3.1-8B-Base and originally under llama3.1 license."


def _card(*lines: str, text: str = "") -> str:
    return "\n".join(("---", *lines, "---", text))


def _found(
    card: str,
    *,
    name: str | None = None,
    files: tuple[str, ...] | None = None,
    hub: dict[str, HubModel] | None = None,
    adapter_config: str | None = None,
) -> list[Finding]:
    _, findings = read_card(card, name=name, beside=Beside(files=files), hub=hub, adapter_config=adapter_config)
    found = [finding for finding in findings if finding.code == "LIN206"]
    for finding in found:
        assert finding.file == "README.md" and finding.line is not None and finding.message and finding.help
    return found


def _models(*models: tuple[str, str | None, tuple[str, ...]]) -> dict[str, HubModel]:
    return {id: HubModel(id, "found", id=id, licence=licence, bases=bases) for id, licence, bases in models}


@pytest.mark.parametrize(
    ("card", "name", "files"),
    [
        pytest.param(
            _card(
                "license: llama3.1", "base_model: meta-llama/Llama-3.1-8B", text="**Built with [Llama](https://x.y)**"
            ),
            "me/Llama-3.1-8B-mine",
            FILES,
            id="Llama 3.1 fine-tune",
        ),
        pytest.param(
            _card("license: llama3", "base_model: meta-llama/Meta-Llama-3-8B", text="_Built with Meta Llama 3_"),
            "me/Llama-3-8B-mine",
            FILES,
            id="Llama 3 fine-tune",
        ),
        pytest.param(
            _card("license: llama2", "base_model: meta-llama/Llama-2-7b-hf"),
            "me/any-name",
            FILES,
            id="Llama 2 fine-tune",
        ),
        pytest.param(
            _card(
                "license: llama3.2",
                "base_model: meta-llama/Llama-3.2-1B",
                "base_model_relation: quantized",
                text="Built with Llama",
            ),
            "me/my-quants-GGUF",
            FILES,
            id="Llama quantised, no name needed",
        ),
        pytest.param(
            _card(
                "license: other",
                "license_name: qwen-research",
                "license_link: https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
                "base_model: Qwen/Qwen2.5-3B-Instruct",
                text="Improved using Qwen.",
            ),
            "me/spanfinder-3b",
            NO_LICENCE,
            id="Qwen 3B fine-tune",
        ),
        pytest.param(
            _card(
                "license: other",
                "license_name: qwen-research",
                "license_link: LICENSE",
                "base_model: Qwen/Qwen2.5-3B-Instruct",
                "base_model_relation: quantized",
            ),
            "me/Qwen2.5-3B-GGUF",
            FILES,
            id="Qwen 3B quantised",
        ),
        pytest.param(
            _card("license: other", "license_name: my-own", "license_link: LICENSE"), "me/x", FILES, id="own licence"
        ),
        pytest.param(_card("license: other", "license_name: my-own"), "me/x", FILES, id="own licence in a file"),
        pytest.param(
            _card("license: apache-2.0", "base_model: mistralai/Mistral-7B-v0.1", "library_name: peft"),
            "me/mistral-lora",
            NO_LICENCE,
            id="adapter of Mistral",
        ),
        pytest.param(
            _card("license: gemma", "base_model: google/gemma-2-9b-it", "base_model_relation: quantized"),
            "me/gemma-2-9b-it-GGUF",
            NO_LICENCE,
            id="GGUF of Gemma",
        ),
        pytest.param(
            _card("license: apache-2.0", "base_model: Qwen/Qwen2.5-7B", "pipeline_tag: text-generation"),
            "me/chat",
            NO_LICENCE,
            id="chat model of an Apache base",
        ),
        pytest.param(_card("license: mit", "library_name: transformers"), "me/base", NO_LICENCE, id="no base"),
        pytest.param(
            _card(
                "license: apache-2.0",
                "base_model:",
                "- mistralai/Mistral-7B-v0.1",
                "- HuggingFaceH4/zephyr-7b-beta",
                "base_model_relation: merge",
            ),
            "me/merge",
            NO_LICENCE,
            id="merge of Apache and MIT",
        ),
        pytest.param(
            _card("license: cc-by-nc-4.0", "base_model: CohereLabs/aya-23-8B"), "me/aya", FILES, id="non-commercial"
        ),
        pytest.param(
            _card("license: cc-by-nc-4.0", "base_model: mistralai/Mistral-7B-v0.1"), "me/nc", FILES, id="stricter"
        ),
        pytest.param(
            _card("license: creativeml-openrail-m", "base_model: runwayml/stable-diffusion-v1-5"),
            "me/sd",
            None,
            id="RAIL",
        ),
        pytest.param(
            _card("license: apache-2.0", "base_model: google/gemma-2-2b"),
            "google/gemma-next",
            None,
            id="the owner's own",
        ),
        pytest.param(_card("license: [apache-2.0, mit]", "library_name: x"), "me/x", None, id="two licences"),
        pytest.param(_card("license: unknown", "base_model: some/one"), "me/x", None, id="unknown"),
        pytest.param(_card("license: MIT", "base_model: some/one"), "me/x", None, id="as SPDX writes it"),
        pytest.param(_card("license: 0BSD", "base_model: some/one"), "me/x", None, id="of the SPDX list"),
        pytest.param(_card("license: apache-2.0", "base_model: some/one"), "me/x", None, id="base not known"),
        pytest.param(_card("language: en"), None, None, id="no card of a model"),
        pytest.param(
            _card("task_categories: [text-generation]", "size_categories: [1K<n<10K]"), None, None, id="dataset"
        ),
        pytest.param(_card("title: x", "sdk: gradio", "app_file: app.py"), None, None, id="Space"),
        pytest.param("# no front matter", None, None, id="no front matter"),
        pytest.param("---\nlicense: [\n---\n", None, None, id="unreadable"),
    ],
)
def test_honest_cards_have_no_alarm(card: str, name: str | None, files: tuple[str, ...] | None) -> None:
    assert [f for f in _found(card, name=name, files=files) if f.level != "note"] == []


@pytest.mark.parametrize(
    ("licence", "base", "named"),
    [
        ("apache-2.0", "meta-llama/Llama-3.1-8B", "llama3.1"),
        ("mit", "google/gemma-2-2b", "gemma"),
        ("apache-2.0", "Qwen/Qwen2.5-3B", "qwen-research"),
        ("apache-2.0", "CohereLabs/aya-23-8B", "cc-by-nc-4.0"),
        ("mit", "bigscience/bloom-560m", "bigscience-bloom-rail-1.0"),
        ("cc-by-4.0", "stabilityai/stablelm-3b-4e1t", "cc-by-sa-4.0"),
        ("Apache 2.0", "mistralai/Ministral-8B-Instruct-2410", "mrl"),
    ],
)
def test_a_licence_that_a_clause_rules_out_is_an_error(licence: str, base: str, named: str) -> None:
    errors = [f for f in _found(_card("tags: [a]", f"license: {licence}", f"base_model: {base}")) if f.level == "error"]
    (error,) = errors
    assert (error.line, error.column) == (3, 10)
    assert licence in error.message and base in error.message and named in error.message
    assert "(known from its id)" in error.message
    assert " of https://" in error.help and "This is no legal advice." in error.help


def test_a_licence_that_only_the_text_names_is_a_warning() -> None:
    card = _card("license: mit", "base_model: meta-llama/Llama-3.1-8B", text=f"{DEEPSEEK}\nBuilt with Llama")
    (found,) = [f for f in _found(card, name=None, files=FILES) if f.level != "note"]
    assert (found.level, found.line, found.column) == ("warning", 2, 10)
    assert "licence mit stands beside llama3.1" in found.message and "which only the text names" in found.message


def test_quantised_models_and_merges_are_derivatives() -> None:
    for relation in ("quantized", "merge"):
        card = _card("license: mit", "base_model: google/gemma-2-2b", f"base_model_relation: {relation}")
        assert "error" in {f.level for f in _found(card)}, relation


@pytest.mark.parametrize(
    ("lines", "adapter_config"),
    [
        (("base_model: google/gemma-2-2b", "base_model_relation: adapter"), None),
        ((), '{"base_model_name_or_path": "google/gemma-2-2b"}'),
        (("base_model: google/gemma-2-2b", "tags: [lora]"), None),
    ],
)
def test_of_an_adapter_it_is_open_whether_it_is_a_derivative(
    lines: tuple[str, ...], adapter_config: str | None
) -> None:
    (found,) = _found(_card("license: mit", *lines), adapter_config=adapter_config)
    assert found.level == "warning" and "licence mit does not go with gemma" in found.message
    assert "Whether an adapter is a derivative of its base is open in law." in found.help
    merged = _found(_card("license: mit", "base_model: google/gemma-2-2b", "tags: [lora]"), files=FILES)
    assert "error" in {f.level for f in merged}


SDXL = ("license: apache-2.0", "base_model: stabilityai/stable-diffusion-xl-base-1.0")


@pytest.mark.parametrize(
    ("lines", "beside"),
    [
        (("tags: [art, t2i-adapter, image-to-image]",), Beside()),
        (("tags: textual_inversion", "base_model_relation: adapter"), Beside()),
        (("library_name: saelens",), Beside()),
        ((), Beside(config={"_class_name": "T2IAdapter"})),
        ((), Beside(config={"_class_name": "ControlNetModel"})),
        ((), Beside(files=("README.md", "learned_embeds.safetensors"))),
        ((), Beside(files=("README.md", "sdxl_models/ip-adapter_sdxl.safetensors"))),
    ],
)
def test_what_holds_nothing_of_the_base_is_for_a_lawyer(lines: tuple[str, ...], beside: Beside) -> None:
    _, findings = read_card(_card(*SDXL, *lines), beside=beside)
    found = [f for f in findings if f.code == "LIN206"]
    assert [f.level for f in found if "for a lawyer" in f.message] == ["note"]
    assert not [f for f in found if f.level != "note"]


def test_only_what_says_so_holds_nothing_of_the_base() -> None:
    for config in ({"_class_name": "UNet2DConditionModel"}, {"_class_name": ["ControlNetModel"]}, {}):
        _, findings = read_card(_card(*SDXL, "tags: [art]"), beside=Beside(config=config))
        assert "error" in {f.level for f in findings if f.code == "LIN206"}


def test_a_card_that_hands_out_terms_has_done_its_duties() -> None:
    lines = ("license: llama3.1", "base_model: meta-llama/Meta-Llama-3.1-8B")
    gated = 'extra_gated_prompt: "### LLAMA 3.1 COMMUNITY LICENSE AGREEMENT"'
    assert _found(_card(*lines, gated), name="me/mine", files=NO_LICENCE) == []
    gemma = ("license: gemma", "base_model: google/gemma-2-9b")
    assert _found(_card(*gemma, "extra_gated_heading: Access Gemma on Hugging Face"), files=NO_LICENCE) == []
    for nothing in ("extra_gated_prompt:", "extra_gated_prompt: ' '", "extra_gated_fields: {a: text}"):
        assert [f for f in _found(_card(*lines, nothing), files=NO_LICENCE) if f.level == "warning"], nothing
    assert "error" in {f.level for f in _found(_card("license: mit", lines[1], "extra_gated_heading: Terms"))}


def test_duties_of_an_unnamed_model_may_be_the_owners() -> None:
    lines = (
        "license: other",
        "license_name: qwen",
        "license_link: https://huggingface.co/Qwen/Qwen2.5-72B-Instruct/blob/main/LICENSE",
        "base_model: Qwen/Qwen2.5-72B",
    )
    assert _found(_card(*lines), name="Qwen/Qwen2.5-72B-Instruct", files=FILES) == []
    (unnamed,) = _found(_card(*lines), files=FILES)
    assert unnamed.level == "warning" and "the owner of the base has no such duty; --name tells" in unnamed.help
    (named,) = _found(_card(*lines), name="me/mine", files=FILES)
    assert "the licence lets it stand elsewhere, too." in named.help and "--name" not in named.help


@pytest.mark.parametrize("declared", [True, False])
def test_words_to_show_are_a_note_of_quantised_copies(declared: bool) -> None:
    relation = ("base_model_relation: quantized",) if declared else ()
    beside = Beside(files=FILES) if declared else Beside(files=FILES, relation="quantized", quantisation="gptq")
    card = _card("license: llama3.1", "base_model: meta-llama/Llama-3.1-8B", *relation)
    _, findings = read_card(card, name="me/mine-GPTQ", beside=beside)
    (note,) = [f for f in findings if f.code == "LIN206"]
    assert note.level == "note" and note.message.startswith('README.md does not show "Built with Llama"')
    assert "elsewhere" in note.help


@pytest.mark.parametrize("values", ["[mit, other]", "[other, mit]", "[mit, home-made]", "[mit, other, unknown]"])
def test_a_licence_of_unknown_text_excuses_nothing(values: str) -> None:
    found = _found(_card(f"license: {values}", "license_name: mine", "base_model: google/gemma-2-2b"))
    assert "error" in {f.level for f in found}
    found = _found(_card("license: [mit, gemma, other]", "license_name: mine", "base_model: google/gemma-2-2b"))
    assert "error" not in {f.level for f in found}


def test_other_without_a_name_is_told_once() -> None:
    lines = ("license: other", "base_model: google/gemma-2-2b")
    (warning,) = _found(_card(*lines))
    assert warning.level == "warning" and "without license_name" in warning.message
    (note,) = _found(_card(*lines, "license_name: mine", "license_link: LICENSE"))
    assert note.level == "note" and "for a lawyer" in note.message


@pytest.mark.parametrize("value", ["{a: mit}", "[[mit]]", "2.0"])
def test_a_licence_that_is_no_text_is_no_way_round_the_bases(value: str) -> None:
    (warning,) = _found(_card(f"license: {value}", "base_model: google/gemma-2-2b"))
    assert warning.level == "warning" and "states no licence that can be read" in warning.message
    assert "google/gemma-2-2b (known from its id) has gemma" in warning.message and "`license: gemma`" in warning.help
    assert _found(_card(f"license: {value}", "base_model: Qwen/Qwen2.5-7B")) == []


def test_all_lines_of_a_licence_are_proposed() -> None:
    wanted = ("`license: other`", "`license_name: qwen-research`", "`license_link: https://")
    for lines in (("base_model: Qwen/Qwen2.5-3B",), ("license: mit", "base_model: Qwen/Qwen2.5-3B")):
        assert any(all(line in f.help for line in wanted) for f in _found(_card(*lines))), lines
    (written,) = _found(_card("license: qwen-research"))
    assert all(line in written.help for line in wanted)


def test_the_front_matter_is_not_the_text() -> None:
    for lines in (
        ("base_model: google/gemma-2-2b", "license: mit"),
        ("tags: [gemma]", "license: mit", "base_model: google/gemma-2-2b"),
    ):
        (error,) = _found(_card(*lines))
        assert error.level == "error"
    gated = 'extra_gated_prompt: "The weights are under the Gemma license."'
    (warning,) = _found(_card("license: mit", "base_model: google/gemma-2-2b", gated))
    assert warning.level == "warning"


def test_a_merge_answers_to_every_parent() -> None:
    card = _card("license: apache-2.0", "base_model:", "- mistralai/Mistral-7B-v0.1", "- google/gemma-2-2b")
    (error,) = [f for f in _found(card) if f.level == "error"]
    assert "google/gemma-2-2b" in error.message


def test_the_hub_tells_more_than_the_id_and_the_chain_is_followed() -> None:
    card = _card("license: mit", "base_model: a/b")
    assert _found(card) == []
    hub = _models(("a/b", "mit", ("c/d",)), ("c/d", "cc-by-nc-4.0", ("a/b", "c/d")))
    (error,) = _found(card, hub=hub)
    assert error.level == "error" and "a base of a/b, namely c/d (known from the Hub)" in error.message
    assert _found(card, hub=_models(("a/b", "mit", ()))) == []


def test_a_base_without_licence_on_the_hub_is_for_a_lawyer() -> None:
    (note,) = _found(_card("license: mit", "base_model: a/b"), hub=_models(("a/b", None, ())))
    assert note.level == "note" and "a/b states no licence" in note.message
    (note,) = _found(_card("license: mit", "base_model: a/b"), hub=_models(("a/b", "home-made", ())))
    assert note.level == "note" and "lawyer" in note.message and "home-made" in note.message


def test_what_llama_wants_seen() -> None:
    lines = ("license: llama3.1", "base_model: meta-llama/Llama-3.1-8B")
    found = _found(_card(*lines, text="<!-- Built with Llama -->"), name="me/Mine", files=NO_LICENCE)
    assert sorted(f.level for f in found) == ["note", "warning", "warning"]
    said = " ".join(f.message for f in found)
    assert '"Built with Llama"' in said and 'does not begin with "Llama"' in said and "no copy" in said
    assert any("section 1.b.i(B) of https://github.com/meta-llama/" in f.help for f in found)
    # Without a name there is none to compare, without a listing no file to miss.
    assert [f.level for f in _found(_card(*lines))] == ["warning"]


def test_what_gemma_wants_beside_the_card() -> None:
    lines = ("license: gemma", "base_model: google/gemma-2-2b")
    (warning,) = _found(_card(*lines), files=NO_LICENCE)
    assert warning.level == "warning" and "Gemma is provided under and subject to" in warning.message
    assert "section 3.1 of https://ai.google.dev/gemma/terms" in warning.help
    (note,) = _found(_card(*lines, "base_model_relation: quantized"), files=NO_LICENCE)
    assert note.level == "note"
    assert _found(_card(*lines), files=(*NO_LICENCE, "Notice.txt")) == []
    text = "Gemma is provided under and subject to the [Gemma Terms of Use](https://ai.google.dev/gemma/terms) found at"
    shown = _found(_card(*lines, text=f"{text} ai.google.dev/gemma/terms"), files=NO_LICENCE)
    assert shown == []
    wrong = _found(_card("license: mit", lines[1]), files=NO_LICENCE)
    assert [f.level for f in wrong] == ["error"]


@pytest.mark.parametrize(
    ("lines", "line", "column"),
    [
        (("base_model: some/one",), 1, 1),
        (("library_name: peft", "license:"), 3, 1),
        (("library_name: peft", "license: ''"), 3, 1),
        (("pipeline_tag: text-generation", "license: []"), 3, 1),
    ],
)
def test_a_missing_licence_is_a_warning(lines: tuple[str, ...], line: int, column: int | None) -> None:
    (warning,) = _found(_card(*lines))
    assert (warning.level, warning.line, warning.column) == ("warning", line, column)
    assert "states no licence" in warning.message


def test_weights_beside_it_make_it_the_card_of_a_model() -> None:
    (warning,) = _found(_card("language: en"), files=("README.md", "model.safetensors"))
    assert warning.level == "warning" and "states no licence" in warning.message


def test_a_missing_licence_is_proposed_where_the_base_has_one() -> None:
    (missing, *_) = _found(_card("base_model: Qwen/Qwen2.5-3B"))
    assert missing.suggestion[:2] == ("license: other", "license_name: qwen-research")
    assert "Qwen/Qwen2.5-3B (known from its id) has qwen-research" in missing.message


@pytest.mark.parametrize(
    ("written", "id", "level"),
    [
        ("Apache 2.0", "apache-2.0", "warning"),
        ("apache2", "apache-2.0", "warning"),
        ("MIT License", "mit", "warning"),
        ("llama-3.1", "llama3.1", "warning"),
        ("MIT", "mit", "note"),
        ("Apache-2.0", "apache-2.0", "note"),
        ("GPL-3.0-only", "gpl-3.0", "note"),
    ],
)
def test_a_misspelt_id_has_a_repair(written: str, id: str, level: str) -> None:
    (finding,) = _found(_card(f"license: {written}"))
    assert finding.level == level and finding.fix is not None
    assert finding.fix.changes == (SetKey("license", id),)
    (finding,) = _found(_card("license:", "- cc0-1.0", f"- {written}"))
    assert finding.line == 4 and finding.fix is not None and finding.fix.changes == (SetItem("license", 1, id),)


def test_or_later_is_not_repaired_away() -> None:
    (finding,) = _found(_card("license: GPL-3.0-or-later"))
    assert finding.level == "note" and finding.fix is None


@pytest.mark.parametrize("written", ["mine", "apache-2.0 OR mit", "cc-by-nc", "proprietary", "llama5"])
def test_an_unknown_licence_is_a_warning(written: str) -> None:
    (finding,) = _found(_card(f"license: {written}"))
    assert finding.level == "warning" and finding.fix is None and written in finding.message


def test_a_base_whose_card_could_not_be_read_is_not_said_to_state_nothing() -> None:
    model = HubModel("a/b", "found", "the front matter of its card cannot be read", id="a/b")
    assert _found(_card("license: mit", "base_model: a/b"), hub={"a/b": model}) == []


def test_a_name_is_no_id() -> None:
    (finding,) = _found(_card("license: qwen-research"))
    assert finding.level == "warning" and finding.suggestion[0] == "license: other"


@pytest.mark.parametrize(
    ("lines", "files", "lacks"),
    [
        ((), None, "license_name and license_link"),
        (("license_name: mine",), None, "license_link"),
        (("license_link: LICENSE",), None, "license_name"),
        (("license_name: ''", "license_link: [a]"), NO_LICENCE, "license_name and license_link"),
        (("license_name: mine",), NO_LICENCE, "license_link"),
        ((), ("docs/LICENSE.md",), "license_name"),
    ],
)
def test_other_has_to_say_which(lines: tuple[str, ...], files: tuple[str, ...] | None, lacks: str) -> None:
    (finding,) = _found(_card("license: other", *lines), files=files)
    assert finding.level == "warning" and finding.message.endswith(f"without {lacks}")


@pytest.mark.parametrize(
    "lines",
    [
        ("license: {a: b}", "base_model: google/gemma-2-2b"),
        ("license: 2.0", "base_model: google/gemma-2-2b"),
        ("license: [[a], {b: c}, null, 3, mit]", "base_model: google/gemma-2-2b"),
        ('license: "\\x1b[31m::error::x\\u202e\\u0000"', "base_model: google/gemma-2-2b"),
        (f"license: {'a' * 100_000}",),
        ("license: [" + ", ".join(["nope"] * 5000) + "]",),
        ("license: other", "license_name: [a, b]", "license_link: {c: d}"),
        ("license: &a [*a]",),
        ("license: ~", "library_name: ~"),
        ('license: "\\ud800"',),
    ],
)
def test_hostile_values_do_not_raise(lines: tuple[str, ...]) -> None:
    found = _found(_card(*lines), name="\x00/\x1b", files=("\x00", "a" * 10_000))
    assert len(found) <= 20
    for finding in found:
        assert all(text.isprintable() and "::" not in text for text in (finding.message, finding.help))


def test_hostile_answers_of_the_hub_do_not_raise() -> None:
    hub = {
        "a/b": HubModel(
            "a/b", "found", id="\x1b[0m", licence="\x1b::warning::", licence_name="x" * 10_000, bases=("",)
        ),
        "": HubModel("", "found", licence="other", bases=("a/b", "\ud800")),
    }
    for finding in _found(_card("license: mit", "base_model: a/b"), hub=hub):
        assert finding.message.isprintable() and "::" not in finding.message


def test_the_british_key_is_renamed_where_it_states_a_licence() -> None:
    (found,) = [f for f in _found(_card("licence: mit", "base_model: some/one")) if f.level == "warning"]
    assert (found.line, found.column) == (2, 1) and '"licence"' in found.message
    assert found.fix is not None and found.fix.changes == (RenameKey("licence", "license"),)
    (other,) = [f for f in _found(_card("licence: license", "base_model: some/one")) if f.level == "warning"]
    assert other.fix is None and "states no licence" in other.message


@pytest.mark.parametrize("kind", ["FluxControlNetModel", "SD3ControlNetModel", "T2IAdapter", "SparseControlNetModel"])
def test_controlnets_of_every_family_hold_nothing_of_the_base(kind: str) -> None:
    card = _card("license: apache-2.0", "base_model: black-forest-labs/FLUX.1-dev")
    beside = Beside(files=("config.json", "diffusion_pytorch_model.safetensors"), config={"_class_name": kind})
    _, findings = read_card(card, beside=beside)
    assert {f.level for f in findings if f.code == "LIN206"} == {"note"}
