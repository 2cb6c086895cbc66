"""Discussions of the local Hub, by the real client."""

from __future__ import annotations

import pytest
from huggingface_hub import DiscussionComment, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.hub import OUTSIDER, TOKEN, LocalHub
from tests.hub.samples import ID, fill


@pytest.fixture
def repo(hub: LocalHub) -> str:
    fill(hub.root / ID)
    return ID


@pytest.fixture
def owner(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=TOKEN)


@pytest.fixture
def outsider(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=OUTSIDER)


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def test_a_discussion_is_opened_read_answered_edited_closed_and_renamed(
    hub: LocalHub, repo: str, owner: HfApi, outsider: HfApi
) -> None:
    opened = outsider.create_discussion(repo, " A question ", description="What is it?")
    assert (opened.num, opened.title, opened.author, opened.status) == (1, "A question", "outsider", "open")
    assert opened.is_pull_request is False
    (first,) = opened.events
    assert isinstance(first, DiscussionComment)
    assert (first.content, first.edited, first.hidden, first.author) == ("What is it?", False, False, "outsider")
    answered = owner.comment_discussion(repo, 1, "A model.")
    edited = outsider.edit_discussion_comment(repo, 1, first.id, "What is this?")
    assert (edited.content, edited.number_of_edits) == ("What is this?", 1)
    closed = owner.change_discussion_status(repo, 1, "closed", comment="Solved.")
    assert closed.new_status == "closed"
    assert owner.rename_discussion(repo, 1, "Solved question").old_title == "A question"
    found = owner.get_discussion_details(repo, 1)
    assert (found.title, found.status, found.repo_id) == ("Solved question", "closed", repo)
    kinds = [event.type for event in found.events]
    assert kinds == ["comment", "comment", "comment", "status-change", "title-change"]
    assert found.events[1].id == answered.id
    assert hub.discussions.of(repo)[0].comments() == ["What is this?", "A model.", "Solved."]


def test_lists_come_in_pages_the_newest_first_and_filtered(
    hub: LocalHub, repo: str, owner: HfApi, outsider: HfApi
) -> None:
    hub.discussions.page_size = 3
    for number in range(7):
        (owner if number % 2 else outsider).create_discussion(repo, f"Number {number}")
    owner.change_discussion_status(repo, 2, "closed")
    anonymous = HfApi(endpoint=hub.endpoint, token=False)
    assert [one.num for one in anonymous.get_repo_discussions(repo)] == [7, 6, 5, 4, 3, 2, 1]
    assert [one.num for one in owner.get_repo_discussions(repo, author="owner")] == [6, 4, 2]
    assert [one.num for one in owner.get_repo_discussions(repo, author="owner", discussion_status="closed")] == [2]
    assert list(owner.get_repo_discussions(repo, discussion_type="pull_request")) == []


def test_who_may_not_is_told_so(hub: LocalHub, repo: str, owner: HfApi, outsider: HfApi) -> None:
    thread = owner.create_discussion(repo, "By the owner")
    comment = thread.events[0].id
    with pytest.raises(HfHubHTTPError) as error:
        HfApi(endpoint=hub.endpoint, token=False).create_discussion(repo, "By nobody")
    assert status_of(error) == 401
    with pytest.raises(HfHubHTTPError) as error:
        outsider.edit_discussion_comment(repo, 1, comment, "Mine now")
    assert status_of(error) == 403
    with pytest.raises(HfHubHTTPError) as error:
        outsider.change_discussion_status(repo, 1, "closed")
    assert status_of(error) == 403
    with pytest.raises(HfHubHTTPError) as error:
        outsider.create_discussion(repo, "No")
    assert status_of(error) == 400
    with pytest.raises(HfHubHTTPError) as error:
        outsider.comment_discussion(repo, 1, "x" * 65_537)
    assert status_of(error) == 400
    hub.faults.gated.add(repo)
    with pytest.raises(HfHubHTTPError) as error:
        outsider.comment_discussion(repo, 1, "From outside")
    assert status_of(error) == 403
    assert [one.num for one in outsider.get_repo_discussions(repo)] == [1]
    hub.faults.private.add(repo)
    with pytest.raises(RepositoryNotFoundError):
        list(outsider.get_repo_discussions(repo))
    hub.discussions.disabled.add(repo)
    with pytest.raises(HfHubHTTPError, match="Discussions are disabled") as error:
        list(owner.get_repo_discussions(repo))
    assert status_of(error) == 403
    assert hub.discussions.of(repo)[0].comments() == [
        "Discussion opened with the [huggingface_hub Python library](https://huggingface.co/docs/huggingface_hub)"
    ]


@pytest.mark.filterwarnings("ignore:Hidden comments")
def test_a_hidden_comment_has_no_text_any_more(hub: LocalHub, repo: str, owner: HfApi, outsider: HfApi) -> None:
    comment = outsider.create_discussion(repo, "Rude words", description="%$#!").events[0].id
    assert owner.hide_discussion_comment(repo, 1, comment).hidden
    (first,) = owner.get_discussion_details(repo, 1).events
    assert isinstance(first, DiscussionComment)
    assert first.hidden
    assert "%$#!" not in first.content
