"""The rules about bases: what the Hub says of them, chains that lead back, what to declare and what to pin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.card import BaseClaim, read_card
from lineage_plugin.card.beside import Beside, Recipe
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.findings import Finding
from lineage_plugin.fixes import RenameKey, SetItem, SetKey

ONE, TWO = "1" * 40, "2" * 40
ADAPTER = '{"base_model_name_or_path": "acme/base"}'


def model(asked: str, /, *bases: str, **more: object) -> HubModel:
    return replace(HubModel(asked, "found", id=asked, commit=ONE, bases=bases), **more)  # type: ignore[arg-type]


def hub(*models: HubModel) -> Mapping[str, HubModel]:
    return {known.asked: known for known in models}


def found(code: str, front: str, text: str = "", **more: object) -> list[Finding]:
    """Return the findings of one rule about a card with this front matter."""
    _, findings = read_card(f"---\n{front}---\n{text}", **more)  # type: ignore[arg-type]
    return [finding for finding in findings if finding.code == code]


def one(code: str, front: str, text: str = "", **more: object) -> Finding:
    (finding,) = found(code, front, text, **more)
    return finding


# LIN202 -------------------------------------------------------------------------------------------------------------

CARD = "license: mit\nbase_model:\n  - acme/other\n  - acme/base\n"


def asked(told: HubModel) -> Mapping[str, HubModel]:
    return hub(model("acme/other"), told)


@pytest.mark.parametrize(
    ("told", "level", "says"),
    [
        (HubModel("acme/base", "missing", "there is no such model"), "error", "cannot be opened: there is no such"),
        (HubModel("acme/base", "denied", "the model is private"), "error", "cannot be opened: the model is private"),
        (HubModel("acme/base", "unknown", "an odd answer"), "warning", "could not be looked up on the Hub: an odd"),
        (model("acme/base", id="acme/base-2"), "warning", "was renamed; the Hub calls it acme/base-2"),
        (model("acme/base", id="Acme/BASE"), "note", "the Hub spells the base acme/base as Acme/BASE"),
        (model("acme/base", gated=True), "note", "acme/base is gated"),
    ],
)
def test_each_answer_of_the_hub(told: HubModel, level: str, says: str) -> None:
    finding = one("LIN202", CARD, hub=asked(told))
    assert (finding.level, finding.file, finding.line, finding.column) == (level, "README.md", 5, 5)
    assert says in finding.message
    assert finding.help.endswith(".")
    assert (finding.fix is not None) == (told.id not in ("", "acme/base"))


def test_a_base_that_is_as_it_should_be() -> None:
    assert found("LIN202", CARD, hub=asked(model("acme/base"))) == []
    assert found("LIN202", CARD, hub={}) == found("LIN202", CARD) == found("LIN202", "license: mit\n", hub={}) == []


def test_an_answer_with_controls_is_printed_without() -> None:
    for state in ("missing", "unknown"):
        finding = one("LIN202", CARD, hub=asked(HubModel("acme/base", state, "a\x1b[2J\n::error::b" * 100)))  # type: ignore[arg-type]
        assert finding.message.isprintable() and "::" not in finding.message and len(finding.message) < 300


def test_the_pinned_revision_does_not_exist() -> None:
    card = "base_model: [acme/other, acme/base]\nbase_model_revision: [v1, v2]\n"
    told = asked(model("acme/base", revisions={"v2": None}))
    finding = one("LIN202", card, hub=told)
    assert (finding.level, finding.line, finding.column) == ("error", 3, 27)
    assert finding.message == "declared base acme/base@v2 cannot be opened: there is no revision 'v2'"
    assert one("LIN202", "base_model:\n- acme/base@v2\n", hub=told).column == 3
    assert found("LIN202", card, hub=asked(model("acme/base", revisions={"v2": TWO, "v3": None}))) == []


@pytest.mark.parametrize(
    ("written", "index", "value"),
    [
        ("base_model: acme/base\n", 0, "acme/new"),
        ("base_model: acme/base@v1\n", 0, "acme/new@v1"),
        ("base_model: [acme/other, '', acme/base]\n", 2, "acme/new"),
        ("base_model:\n- https://huggingface.co/acme/base\n", 0, "acme/new"),
        ("base_model:\n- https://huggingface.co/acme/base/tree/v1\n- acme/other\n", 0, "acme/new@v1"),
    ],
)
def test_a_renamed_base_is_written_anew(written: str, index: int, value: str) -> None:
    fix = one("LIN202", written, hub=asked(model("acme/base", id="acme/new"))).fix
    assert fix is not None
    assert fix.changes == (SetItem("base_model", index, value),)
    assert fix.title == "Write acme/new for acme/base"


def test_a_new_name_is_not_written_twice_or_into_another_file() -> None:
    renamed = model("acme/base", id="acme/OTHER")
    assert one("LIN202", CARD, hub=asked(renamed)).fix is None
    assert one("LIN202", "license: mit\n", adapter_config=ADAPTER, hub=asked(renamed)).fix is None


def test_a_name_without_owner_is_as_good_as_its_full_one() -> None:
    finding = one("LIN202", "base_model: gpt2\n", hub=hub(model("gpt2", id="openai-community/gpt2")))
    assert (finding.level, finding.message) == ("note", "the full name of the base gpt2 is openai-community/gpt2")
    assert finding.fix is not None and finding.fix.changes == (SetItem("base_model", 0, "openai-community/gpt2"),)


# LIN209 -------------------------------------------------------------------------------------------------------------


def test_a_successor_is_noted() -> None:
    finding = one("LIN209", "base_model: acme/base\n", hub=hub(model("acme/base", new_version="acme/base-2")))
    assert (finding.level, finding.line, finding.column, finding.fix) == ("note", 2, 13, None)
    assert "acme/base-2" in finding.message


def test_a_successor_that_is_known_already_is_not() -> None:
    told = hub(model("acme/base", new_version="Acme/Base-2"), model("acme/base-2"))
    assert found("LIN209", "base_model: [acme/base, acme/base-2]\n", hub=told) == []
    assert found("LIN209", "base_model: acme/base\n", name="acme/base-2", hub=told) == []
    assert found("LIN209", "base_model: a/b\n", hub=hub(model("a/b", new_version="A/b"))) == []
    # Of what is further up, the owner of the base may think what he likes.
    assert found("LIN209", "base_model: a/b\n", hub=hub(model("a/b", "acme/base"), *told.values())) == []


# LIN208 -------------------------------------------------------------------------------------------------------------


def test_its_own_base_needs_no_hub() -> None:
    finding = one("LIN208", "base_model:\n- acme/base\n- Me/Mine\n", name="me/mine")
    assert (finding.level, finding.line, finding.column) == ("error", 4, 3)
    assert finding.message == "the model is declared as its own base: Me/Mine"
    assert one("LIN208", "base_model: me/mine@main\n", name="me/mine").level == "error"
    assert one("LIN208", "license: mit\n", adapter_config=ADAPTER, name="acme/base").file == "adapter_config.json"


@pytest.mark.parametrize("name", [None, "them/mine", "me/mine-GGUF", "mine", "me/mine-lora"])
def test_another_model_is_no_self_reference(name: str | None) -> None:
    assert found("LIN208", "base_model: me/mine\n", name=name, hub=hub(model("me/mine", "acme/base"))) == []


def test_its_own_base_by_a_name_of_before() -> None:
    told = hub(model("me/old", id="me/mine"))
    assert one("LIN208", "base_model: me/old\n", name="me/mine", hub=told).level == "error"
    told = hub(model("me/old", id="me/mine"), model("me/mine"))
    assert one("LIN208", "base_model: me/mine\n", name="me/old", hub=told).level == "error"


def test_an_earlier_commit_of_the_model_is_possible() -> None:
    finding = one("LIN208", f"base_model: me/mine\nbase_model_revision: {ONE}\n", name="me/mine")
    assert (finding.level, finding.message) == (
        "note",
        "an earlier commit of the model itself is declared as its base: me/mine",
    )


def test_a_chain_that_leads_back_is_named() -> None:
    told = hub(model("a/one", "a/x", "a/two"), model("a/two", "ME/mine"), model("me/mine", "else/where"))
    finding = one("LIN208", "base_model: a/one\n", name="Me/Mine", hub=told)
    assert finding.level == "error"
    assert finding.message == "the chain of bases leads back to the model: Me/Mine -> a/one -> a/two -> me/mine"
    assert found("LIN208", "base_model: a/one\n", name="me/another", hub=told) == []


def test_a_circle_further_up_is_a_note_and_told_once() -> None:
    told = hub(model("a/one", "a/two"), model("a/two", "a/three"), model("a/three", "a/two"), model("a/self", "A/Self"))
    finding = one("LIN208", "base_model: [a/one, a/two]\n", name="me/mine", hub=told)
    assert (finding.level, finding.column) == ("note", 14)
    assert finding.message == "the bases of a/one run in a circle: a/two -> a/three -> a/two"
    finding = one("LIN208", "base_model: a/self\n", hub=told)
    assert (finding.level, finding.message) == ("note", "the bases of a/self run in a circle: a/self -> a/self")


def test_a_long_way_round_is_cut_short() -> None:
    told = hub(*(model(f"a/m{n}", f"a/m{(n + 1) % 3000}") for n in range(3000)))
    finding = one("LIN208", "base_model: a/m0\n", hub=told)
    assert finding.message.endswith("a/m5 -> a/m6 -> ... -> a/m0")


IDS = st.sampled_from(["a/a", "a/b", "b/a", "A/A", "me/mine", "gpt2", "x" * 96 + "/y"])
MODELS = st.builds(
    HubModel,
    IDS,
    st.sampled_from(["found", "missing", "denied", "unknown"]),
    st.text(max_size=20),
    st.one_of(st.just(""), IDS),
    st.one_of(st.none(), st.just(ONE)),
    st.dictionaries(st.sampled_from(["v1", ONE]), st.one_of(st.none(), st.just(TWO)), max_size=2),
    st.booleans(),
    bases=st.lists(IDS, max_size=3).map(tuple),
    new_version=st.one_of(st.none(), IDS),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(MODELS, max_size=6), st.lists(IDS, max_size=4), st.one_of(st.none(), IDS), st.booleans())
def test_no_family_makes_a_rule_raise(models: list[HubModel], bases: list[str], name: str | None, pin: bool) -> None:
    card = f"---\nbase_model: [{', '.join(bases)}]\nbase_model_revision: {ONE if pin else ''}\n---\n"
    _, findings = read_card(card, name=name, hub=hub(*models))
    assert all(finding.message.isprintable() and finding.line is not None for finding in findings)
    assert all(finding.column is not None for finding in findings if finding.code in ("LIN202", "LIN208", "LIN209"))


# LIN205 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("base_model: acme/base\n", ONE),
        ("base_model: [acme/base]\n", (ONE,)),
        ("base_model: acme/base\nbase_model_revision: main\n", ONE),
        ("base_model: [acme/base, acme/other]\n", (ONE, TWO)),
        ("base_model: [acme/base, acme/other@v1]\n", (ONE, "v1")),
        ("base_model: [acme/base, acme/other]\nbase_model_revision: [null, v2]\n", (ONE, "v2")),
        ("base_model: [acme/base, acme/other]\nbase_model_revision: []\n", (ONE, TWO)),
    ],
)
def test_bases_are_pinned_to_what_the_hub_tells(card: str, value: str | tuple[str, ...]) -> None:
    told = hub(model("acme/base"), model("acme/other", commit=TWO))
    for finding in found("LIN205", card, hub=told):
        assert finding.fix is not None
        assert finding.fix.changes == (SetKey("base_model_revision", value, after="base_model"),)
        assert "of today" in finding.fix.title and "check" in finding.fix.title
        assert "today" in finding.help
        assert finding.column is not None
    assert found("LIN205", card, hub=told)
    assert all(finding.fix is None and "today" not in finding.help for finding in found("LIN205", card))


@pytest.mark.parametrize(
    "card",
    [
        "base_model: [acme/base, acme/gone]\n",  # one commit is not known
        "base_model: [acme/base, '']\n",  # one entry is no base
        "base_model: [acme/base, acme/base]\n",  # twice
        "base_model: acme/base@main\n",  # would contradict the branch beside it
        "base_model: [acme/base, acme/other]\nbase_model_revision: v1\n",  # one for two, for its author to mend
        "base_model: acme/base\nbase_model_revision: 'not a revision'\n",
    ],
)
def test_nothing_is_pinned_by_halves(card: str) -> None:
    told = hub(model("acme/base"), model("acme/other"), HubModel("acme/gone", "missing"))
    assert {finding.fix for finding in found("LIN205", card, hub=told)} == {None}


def test_the_base_of_an_adapter_is_pinned_in_its_own_file() -> None:
    finding = one("LIN205", "license: mit\n", adapter_config=ADAPTER, hub=hub(model("acme/base")))
    assert finding.fix is None
    assert "`revision` in adapter_config.json" in finding.help and ONE in finding.help


# LIN201 -------------------------------------------------------------------------------------------------------------


def test_what_the_adapter_names_is_declared() -> None:
    finding = one("LIN201", "license: mit\nbase_model:\n", adapter_config=ADAPTER)
    assert (finding.level, finding.line, finding.column) == ("note", 3, 1)
    assert finding.fix is not None
    adapter = SetKey("base_model_relation", "adapter", after="base_model")
    assert finding.fix.changes == (SetKey("base_model", "acme/base"), adapter)
    assert finding.fix.title == "Declare acme/base from adapter_config.json"

    def changes(front: str, **beside: object) -> object:
        known = Beside(files=("adapter_config.json",), **beside)  # type: ignore[arg-type]
        fix = one("LIN201", front, adapter_config=ADAPTER, beside=known).fix
        return None if fix is None else fix.changes[1:]

    assert changes("license: mit\n") == ()  # the files leave it open
    assert changes("license: mit\n", relation="adapter") == (adapter,)
    assert changes("base_model_relation: finetune\n", relation="adapter") == ()
    assert changes("base_model: /home/me/model\n", relation="adapter") is None
    assert read_card(None, adapter_config=ADAPTER)[1][0].fix is None


def test_what_the_recipe_names_is_declared() -> None:
    claims = tuple(BaseClaim(id, None, "mergekit_config.yml", 3) for id in ("a/one", "a/two"))
    recipe = Recipe("slerp", claims[0], claims, "mergekit_config.yml", 1)
    finding = one("LIN201", "license: mit\n", beside=Beside(relation="merge", recipe=recipe, claims=claims))
    assert (finding.level, finding.line, finding.column) == ("note", 1, 1)
    assert finding.message == (
        "README.md declares no base model; the merge recipe in mergekit_config.yml names a/one, a/two"
    )
    assert finding.fix is not None and finding.fix.changes == (
        SetKey("base_model", ("a/one", "a/two")),
        SetKey("base_model_relation", "merge", after="base_model"),
    )
    single = Beside(recipe=replace(recipe, models=claims[:1]))
    fix = one("LIN201", "license: mit\n", beside=single).fix
    assert fix is not None and fix.changes == (SetKey("base_model", "a/one"),)


@pytest.mark.parametrize("key", ["basemodel", "base-model", "Base_Model", "base_models", "baseModel"])
def test_a_misspelt_key_is_renamed(key: str) -> None:
    finding = one("LIN201", f"license: mit\n{key}: acme/base\n")
    assert (finding.level, finding.line, finding.column) == ("warning", 3, 1)
    assert finding.fix is not None and finding.fix.changes == (RenameKey(key, "base_model"),)


def test_the_card_of_a_dataset_is_left_alone() -> None:
    assert found("LIN201", "dataset_info:\n  features: []\nsize_categories: [1K<n<10K]\n") == []


FROM_SCRATCH = [
    "# A\n\nThis model was trained from scratch on 10B tokens.\n",
    "Good to know. This model has been entirely pretrained\nfrom scratch.",
    "# Acme-7B\n\nAcme-7B is a 7B language model pre-trained from scratch on public data. It is no fine-tune.",
    "- **Note:** this model was trained completely from scratch",
]
NOT_FROM_SCRATCH = [
    "",
    "This model was not trained from scratch.",
    "The base model was trained from scratch on 2T tokens, then we tuned it on our data.",
    "# Acme-7B\n\nLlama-3 is a model pretrained from scratch.",
    "The teacher model was trained from scratch.",
    "This model was trained from scratch by Meta; we changed it.",
    "If this model was trained from scratch, results would differ.",
    '"This model was trained from scratch" would be false.',
    "<!-- This model was trained from scratch. -->\nFinetuned from Llama 3",
    "> This model was trained from scratch.",
    "```\nThis model was trained from scratch.\n```",
    "Unlike others, Acme is a model never trained from scratch",
    "This model was fine-tuned from acme/base; models trained from scratch do worse.",
    "It is based on a model with a head that was trained from scratch.",
    "<!-- This model card has been generated automatically according to the information the Trainer had access to. "
    "-->\n\nThis model was trained from scratch on the None dataset.",
    "from scratch " * 10_000,
    "is a " * 100_000 + "trained from scratch",
]


@pytest.mark.parametrize("text", FROM_SCRATCH)
def test_a_model_trained_from_scratch_gets_no_alarm(text: str) -> None:
    finding = one("LIN201", "license: mit\n", text)
    line = 4 + text[: text.index("from scratch")].count("\n")
    assert finding.level == "note"
    assert (finding.ignored, finding.ignored_level) == (
        f"line {line} says that it was trained from scratch",
        "warning",
    )


@pytest.mark.parametrize("text", NOT_FROM_SCRATCH[:-1])
def test_what_only_sounds_like_it_is_no_statement(text: str) -> None:
    finding = one("LIN201", "license: mit\n", text)
    assert finding.level == "warning"
    assert "# lineage: ignore-file[LIN201]" in finding.help


def test_a_tag_says_it_too_and_a_file_that_names_a_base_outweighs_it() -> None:
    for tags in ("[en, from-scratch]", "trained_from_scratch", "[Pretrained-From-Scratch]"):
        finding = one("LIN201", f"tags: {tags}\n")
        assert (finding.level, finding.line) == ("note", 1)
        assert finding.ignored == "the tag in line 2 says that it was trained from scratch"
    assert one("LIN201", "tags: [scratch, 7, null]\n").level == "warning"
    claims = (BaseClaim("acme/base", None, "config.json", None),)
    assert one("LIN201", "tags: [from-scratch]\n", beside=Beside(claims=claims)).level == "warning"
    assert one("LIN201", "license: mit\n", FROM_SCRATCH[0], stated=claims).level == "warning"
